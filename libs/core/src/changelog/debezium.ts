/**
 * A write in the shape that Debezium's consumers and sinks read: `before`, `after`, `source`, `op`, `ts_ms`; with or without the schema that Kafka
 * Connect's JsonConverter and Debezium's transforms need. Pure.
 *
 * `op` is `r` for an upsert: the row as it is, whether or not the reader has one, as in Debezium's snapshots. What the row was before is not in the
 * change log, and `u` without a `before` is refused by some readers. `d` has the key in `before`. There are no null values.
 */
import { jsonObject } from '../changes/change-json.ts';
import { PgquorumError } from '../errors/error.ts';
import { keyText, type Change, type ColumnImage, type TableImage, type WriteChange } from './change.ts';
import { ChangeHeaders, eventId, type ChangeEncoder } from './codec.ts';
import { envelopeSchema, keySchema } from './debezium-schema.ts';
import { jsonValue } from './json-value.ts';
import type { Commit } from './message.ts';
import type { RecordContent } from './record-batch.ts';

export interface KnownTable {
  readonly schema: string;
  readonly image: TableImage;
  /** In key order. */
  readonly keyColumns: readonly string[];
}

export interface DebeziumOptions {
  /** What Debezium calls the topic prefix: names this log. */
  readonly name: string;
  readonly cluster: string;
  readonly withSchema: boolean;
  /** The table as it is now: a delete brings no columns. */
  readonly tableOf: (collection: string) => KnownTable | undefined;
}

type Fields = (readonly [name: string, json: string])[];

export class DebeziumEncoder implements ChangeEncoder {
  readonly #options: DebeziumOptions;
  readonly #headers = new ChangeHeaders('application/json');
  /** Schemas by table, made once: they are most of a message. */
  readonly #schemas = new WeakMap<TableImage, { readonly key: string; readonly value: string }>();

  constructor(options: DebeziumOptions) {
    this.#options = options;
  }

  record(change: Change, commit: Commit, originName: string): RecordContent {
    if (change.kind !== 'write')
      throw new PgquorumError('invariant_broken', `a ${change.kind} has no shape in Debezium's words`);
    const table = this.#table(change);
    const image = change.row?.table ?? table.image;
    const key = jsonObject(keyFields(change, image, table.keyColumns));
    const value = jsonObject(this.#envelope(change, { commit, originName, image, table }));
    const id = eventId(change, commit);
    return {
      key: this.#wrapped(image, 'key', key),
      ...this.#headers.of(change, commit, id),
      writeValue: (into) => into.text(this.#wrapped(image, 'value', value)),
    };
  }

  /** Of a collection that was dropped meanwhile the row says what there is to say. */
  #table(change: WriteChange): KnownTable {
    const known = this.#options.tableOf(change.collection);
    if (known !== undefined) return known;
    const image = change.row?.table ?? {
      collection: change.collection,
      columns: change.key.map((_, at): ColumnImage => ({
        name: at === 0 ? 'id' : `key${at}`,
        type: 'text',
        isKey: true,
      })),
    };
    return {
      schema: 'public',
      image,
      keyColumns: image.columns.filter(({ isKey }) => isKey).map(({ name }) => name),
    };
  }

  #wrapped(image: TableImage, part: 'key' | 'value', payload: string): string {
    if (!this.#options.withSchema) return payload;
    let schemas = this.#schemas.get(image);
    if (schemas === undefined) {
      const name = `${this.#options.name}.${image.collection}`;
      schemas = {
        key: JSON.stringify(keySchema(image, name)),
        value: JSON.stringify(envelopeSchema(image, name)),
      };
      this.#schemas.set(image, schemas);
    }
    return `{"schema":${schemas[part]},"payload":${payload}}`;
  }

  #envelope(change: WriteChange, about: About): Fields {
    const { image, table, commit } = about;
    const keys = new Map(keyFields(change, image, table.keyColumns));
    const before = image.columns.map(({ name }) => [name, keys.get(name) ?? 'null'] as const);
    const { row } = change;
    const after = image.columns.map(
      ({ name, type }, at) => [name, jsonValue(type, row?.values[at] ?? null, 'debezium')] as const,
    );
    return [
      ['before', row === null ? jsonObject(before) : 'null'],
      ['after', row === null ? 'null' : jsonObject(after)],
      ['source', this.#source(change, about)],
      ['transaction', 'null'],
      ['op', row === null ? '"d"' : '"r"'],
      ['ts_ms', String(Math.floor(commit.commitTimeMs))],
    ];
  }

  /** Debezium's fields, then what orders the writes of a key that several masters take. */
  #source(
    { version, collection, shard, ...change }: WriteChange,
    { commit, originName, table }: About,
  ): string {
    const { name, cluster } = this.#options;
    const id = eventId({ version, collection, shard, ...change }, commit);
    return jsonObject([
      ['version', '"1"'],
      ['connector', '"pgquorum"'],
      ['name', JSON.stringify(name)],
      ['ts_ms', String(Math.floor(commit.commitTimeMs))],
      ['snapshot', '"false"'],
      ['db', JSON.stringify(cluster)],
      ['schema', JSON.stringify(table.schema)],
      ['table', JSON.stringify(collection)],
      ['lsn', String(commit.commitLsn)],
      ['id', JSON.stringify(id)],
      ['key', JSON.stringify(keyText(change.key))],
      ['shard', String(shard)],
      ['origin', JSON.stringify(originName)],
      ['rank', String(version.rank)],
      ['epoch', String(version.epoch)],
      ['hlc', String(version.hlc)],
      ['origin_number', String(version.dot.origin)],
      ['counter', String(version.dot.counter)],
    ]);
  }
}

interface About {
  readonly commit: Commit;
  readonly originName: string;
  readonly image: TableImage;
  readonly table: KnownTable;
}

/** From the canonical texts, in the table's order, so that a delete has the very key of the upserts before it. */
function keyFields(change: WriteChange, image: TableImage, keyColumns: readonly string[]): Fields {
  return image.columns.flatMap(({ name, type }) => {
    const at = keyColumns.indexOf(name);
    return at < 0 ? [] : [[name, keyJson(type, change.key[at] ?? '')] as const];
  });
}

const dayMs = 86_400_000;

function keyJson(type: string, text: string): string {
  if (/^(int[248]|oid)$/.test(type)) return text;
  if (type === 'bool') return String(text === 't' || text === 'true');
  if (type === 'date') return String(Date.parse(`${text}T00:00:00Z`) / dayMs);
  if (type === 'bytea')
    return JSON.stringify(Buffer.from(text.replace(/^\\x/, ''), 'hex').toString('base64'));
  return JSON.stringify(text);
}
