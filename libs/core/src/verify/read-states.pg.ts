/**
 * The source's side of copying: whole states of keys (row, version, what was seen, CRDT fields, open losers, gateway requests), and the closed conflict records of the same
 * keys, since a record that was resolved may stand open elsewhere. Row, version and open losers are of one snapshot; what is given back is durable here, so
 * it may stand on another node (capture/reread.pg.ts has the reasons).
 */
import type pg from 'pg';
import { OriginCatalog, type PublishedCollection } from '../capture/catalog.pg.ts';
import { readStates, waitFlushed } from '../capture/reread.pg.ts';
import { keyText, type ConflictChange, type DataChange, type KeyTexts } from '../changelog/change.ts';
import { conflictJsonSql, recordFromJson, type ConflictJson } from '../conflicts/record.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';

/** What one batch may hold. A single row may be larger than `bytes`: then it is a batch of its own. */
export interface BatchLimit {
  readonly rows: number;
  readonly bytes: number;
}

/** Keys of one shard in key order: beyond `after`, up to and with `upTo`. */
export interface KeyRange {
  readonly shard: number;
  readonly after?: KeyTexts | null;
  readonly upTo?: KeyTexts | null;
}

export interface StateBatch {
  readonly changes: readonly DataChange[];
  /** How many keys have a state in it. */
  readonly states: number;
  /** Keys whose version says alive and that have no row here: it went behind the triggers' back. There is nothing to copy. */
  readonly rowless: readonly KeyTexts[];
  /** Of a range, where the next batch begins; null after the last one. */
  readonly next: KeyTexts | null;
}

interface SizedKey {
  readonly key: KeyTexts;
  readonly bytes: number;
}

/** Reads on a connection that nothing else uses meanwhile. */
export class StateReader {
  readonly #client: pg.Client;
  readonly #source: PublishedCollection;

  private constructor(client: pg.Client, source: PublishedCollection) {
    this.#client = client;
    this.#source = source;
  }

  static async open(client: pg.Client, collection: string): Promise<StateReader> {
    const catalog = new OriginCatalog(client);
    await catalog.reload();
    const source = catalog.find(collection);
    if (source === undefined)
      throw new PgquorumError('schema_drift', `collection ${collection} is not on this node`);
    return new StateReader(client, source);
  }

  /** The states of these keys, in batches. A key that has never had a version here is left out. */
  async *keys(keys: readonly KeyTexts[], limit: BatchLimit): AsyncGenerator<StateBatch> {
    for (let at = 0; at < keys.length;) {
      const page = keys.slice(at, at + limit.rows);
      const fitting = fit(await this.#sizesOf(page), limit);
      // Keys without a version have no size and go along with the page.
      const cut = fitting.length < page.length ? afterLast(page, fitting) : page.length;
      yield await this.#read(page.slice(0, cut), null);
      at += cut;
    }
  }

  /** The next batch of a range. */
  async range(range: KeyRange, limit: BatchLimit): Promise<StateBatch> {
    const page = await this.#pageOf(range, limit.rows);
    const fitting = fit(page, limit);
    const done = fitting.length === page.length && page.length < limit.rows;
    return this.#read(
      fitting.map((one) => one.key),
      done ? null : fitting.at(-1)!.key,
    );
  }

  async #read(keys: readonly KeyTexts[], next: KeyTexts | null): Promise<StateBatch> {
    if (keys.length === 0) return { changes: [], states: 0, rowless: [], next };
    const states = await readStates(this.#client, this.#source, keys, { requests: 'all' });
    const stateless = keys.filter((key) => !states.has(keyText(key)));
    const records = await this.#otherRecords(keys, stateless);
    await waitFlushed(this.#client);
    const { columns } = this.#source.image;
    const found = [...states.values()];
    const rowless = found.filter(
      ({ row }) => row !== null && columns.some((column, at) => column.isKey && row.values[at] === null),
    );
    const whole = found.filter((change) => !rowless.includes(change));
    return {
      changes: [...whole, ...records],
      states: whole.length,
      rowless: rowless.map((change) => change.key),
      next,
    };
  }

  /** Those that are closed, and those of keys that have no state to carry them: what returned after it was purged. */
  async #otherRecords(keys: readonly KeyTexts[], stateless: readonly KeyTexts[]): Promise<ConflictChange[]> {
    const { rows } = await this.#client.query<{ record: ConflictJson }>(
      `select ${conflictJsonSql('c')} as record from pgquorum.conflict c where c.collection = $1 and c.key = any($2::text[]) and (c.state <> 'open' or c.key = any($3::text[]))`,
      [this.#source.collection, keys.map(keyText), stateless.map(keyText)],
    );
    return rows
      .map((row) => recordFromJson(row.record))
      .map((record) => ({
        kind: 'conflict',
        collection: record.collection,
        key: record.key,
        shard: record.shard,
        record,
      }));
  }

  async #sizesOf(keys: readonly KeyTexts[]): Promise<SizedKey[]> {
    const { keyColumns, keyTypes } = this.#source;
    const names = keyColumns.map((_, at) => `k${at}`).join(', ');
    const match = keyColumns.map((name, at) => `v.${quoteName(name)} = k.k${at}::${keyTypes[at]}`);
    const { rows } = await this.#client.query<unknown[]>({
      text: `select ${this.#keyTexts('v')}, ${this.#sizeSql()}
        from unnest(${keyColumns.map((_, at) => `$${at + 1}::text[]`).join(', ')}) with ordinality k(${names}, place) join ${this.#versions} v on ${match.join(' and ')}
        left join ${this.#table} t on ${this.#sameKey} order by k.place`,
      values: keyColumns.map((_, at) => keys.map((key) => key[at])),
      rowMode: 'array',
    });
    return rows.map((row) => this.#sized(row));
  }

  async #pageOf({ shard, after, upTo }: KeyRange, rows: number): Promise<SizedKey[]> {
    const { keyColumns, keyTypes } = this.#source;
    const values: unknown[] = [shard, rows];
    const list = keyColumns.map((name) => `v.${quoteName(name)}`).join(', ');
    const bound = (operator: string, key: KeyTexts | null | undefined): string => {
      if (key == null) return '';
      const places = key.map((text, at) => `$${values.push(text)}::text::${keyTypes[at]}`);
      return ` and (${list}) ${operator} (${places.join(', ')})`;
    };
    const where = `v.shard = $1${bound('>', after)}${bound('<=', upTo)}`;
    const result = await this.#client.query<unknown[]>({
      text: `select ${this.#keyTexts('v')}, ${this.#sizeSql()}
        from (select v.* from ${this.#versions} v where ${where} order by ${list} limit $2) v left join ${this.#table} t on ${this.#sameKey} order by ${list}`,
      values,
      rowMode: 'array',
    });
    return result.rows.map((row) => this.#sized(row));
  }

  #sized(row: unknown[]): SizedKey {
    return { key: row.slice(0, -1) as string[], bytes: Number(row.at(-1)) };
  }

  get #versions(): string {
    return `pgquorum.${quoteName(`version_${this.#source.collection}`)}`;
  }

  get #table(): string {
    return quoteTable({ schema: this.#source.schema, name: this.#source.table });
  }

  get #sameKey(): string {
    return this.#source.keyColumns.map((name) => `t.${quoteName(name)} = v.${quoteName(name)}`).join(' and ');
  }

  #keyTexts(alias: string): string {
    return this.#source.keyColumns.map((name) => `${alias}.${quoteName(name)}::text`).join(', ');
  }

  /** What a state takes when it is read: only compressed values have to be looked at for it. */
  #sizeSql(): string {
    const columns = this.#source.columns.map(({ name, send }) => {
      const value = `t.${quoteName(name)}`;
      return `coalesce(case when pg_column_compression(${value}) is null then pg_column_size(${value}) else octet_length(${send}(${value})) end, 0)`;
    });
    const key =
      this.#source.keyColumns.length === 1
        ? this.#keyTexts('v')
        : `pgquorum.key_text(${this.#keyTexts('v')})`;
    const losers = `coalesce((select sum(octet_length(c.loser_row::text)) from pgquorum.conflict c where c.collection = ${quoteText(this.#source.collection)} and c.key = ${key} and c.state = 'open'), 0)`;
    const requests = `coalesce((select sum(80 + octet_length(coalesce(r.clock::text, ''))) from pgquorum.request r where r.collection = ${quoteText(this.#source.collection)} and r.key = ${key}), 0)`;
    return [...columns, losers, requests].join(' + ');
  }
}

/** As many of them, from the first on, as a batch may hold; at least one. */
function fit(keys: readonly SizedKey[], limit: BatchLimit): readonly SizedKey[] {
  let bytes = 0;
  const end = keys.findIndex((one, at) => (bytes += one.bytes) > limit.bytes && at > 0);
  return end === -1 ? keys : keys.slice(0, end);
}

function afterLast(page: readonly KeyTexts[], fitting: readonly SizedKey[]): number {
  const last = fitting.at(-1);
  return last === undefined ? page.length : page.findIndex((key) => keyText(key) === keyText(last.key)) + 1;
}
