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

/** How far a walk over all shards of a collection is: keys of `shard` beyond `after` are next, and those of later shards. */
export interface WalkPlace {
  readonly shard: number;
  readonly after: KeyTexts | null;
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

/** A batch of a walk, and where the next one begins; null after the last one. */
export type WalkBatch = Omit<StateBatch, 'next'> & { readonly next: WalkPlace | null };

interface SizedKey {
  readonly shard: number;
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
      yield { ...(await this.#read(page.slice(0, cut))), next: null };
      at += cut;
    }
  }

  /** The next batch of a range. */
  async range({ shard, after, upTo }: KeyRange, limit: BatchLimit): Promise<StateBatch> {
    const values: unknown[] = [shard];
    const conditions = ['v.shard = $1'];
    if (after != null) conditions.push(`(${this.#keyList}) > (${this.#given(after, values)})`);
    if (upTo != null) conditions.push(`(${this.#keyList}) <= (${this.#given(upTo, values)})`);
    const { batch, last } = await this.#batchOf(conditions.join(' and '), values, limit);
    return { ...batch, next: last?.key ?? null };
  }

  /** The next batch of the whole collection, shard by shard: of small shards many are one batch. */
  async onward({ shard, after }: WalkPlace, limit: BatchLimit): Promise<WalkBatch> {
    const values: unknown[] = [shard];
    const condition =
      after === null ? 'v.shard >= $1' : `(v.shard, ${this.#keyList}) > ($1, ${this.#given(after, values)})`;
    const { batch, last } = await this.#batchOf(condition, values, limit);
    return { ...batch, next: last === null ? null : { shard: last.shard, after: last.key } };
  }

  /** The first of what the condition chooses; `last` is null when that was all. */
  async #batchOf(
    where: string,
    values: unknown[],
    limit: BatchLimit,
  ): Promise<{ readonly batch: Omit<StateBatch, 'next'>; readonly last: SizedKey | null }> {
    const page = await this.#pageOf(where, values, limit.rows);
    const fitting = fit(page, limit);
    const done = fitting.length === page.length && page.length < limit.rows;
    return {
      batch: await this.#read(fitting.map((one) => one.key)),
      last: done ? null : fitting.at(-1)!,
    };
  }

  async #read(keys: readonly KeyTexts[]): Promise<Omit<StateBatch, 'next'>> {
    if (keys.length === 0) return { changes: [], states: 0, rowless: [] };
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
      text: `select v.shard, ${this.#keyTexts('v')}, ${this.#sizeSql()}
        from unnest(${keyColumns.map((_, at) => `$${at + 1}::text[]`).join(', ')}) with ordinality k(${names}, place) join ${this.#versions} v on ${match.join(' and ')}
        left join ${this.#table} t on ${this.#sameKey} order by k.place`,
      values: keyColumns.map((_, at) => keys.map((key) => key[at])),
      rowMode: 'array',
    });
    return rows.map((row) => this.#sized(row));
  }

  async #pageOf(where: string, values: readonly unknown[], rows: number): Promise<SizedKey[]> {
    const order = `v.shard, ${this.#keyList}`;
    const result = await this.#client.query<unknown[]>({
      text: `select v.shard, ${this.#keyTexts('v')}, ${this.#sizeSql()}
        from (select v.* from ${this.#versions} v where ${where} order by ${order} limit $${values.length + 1}) v left join ${this.#table} t on ${this.#sameKey} order by ${order}`,
      values: [...values, rows],
      rowMode: 'array',
    });
    return result.rows.map((row) => this.#sized(row));
  }

  #sized([shard, ...row]: unknown[]): SizedKey {
    return { shard: Number(shard), key: row.slice(0, -1) as string[], bytes: Number(row.at(-1)) };
  }

  get #keyList(): string {
    return this.#source.keyColumns.map((name) => `v.${quoteName(name)}`).join(', ');
  }

  /** A key as parameters that are added to `values`. */
  #given(key: KeyTexts, values: unknown[]): string {
    return key.map((text, at) => `$${values.push(text)}::text::${this.#source.keyTypes[at]}`).join(', ');
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
