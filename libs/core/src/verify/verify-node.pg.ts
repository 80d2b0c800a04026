/** One node as verification asks it: digests, keys and views of a collection's shards, on a connection of its own. */
import type pg from 'pg';
import { TargetCatalog } from '../apply/target.pg.ts';
import type { TargetTable } from '../apply/target-table.ts';
import { keyText, type KeyTexts } from '../changelog/change.ts';
import { PgquorumError } from '../errors/error.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { quoteTable } from '../postgres/identifier.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import type { Clock } from '../versioning/clock.ts';
import { absentView, type BucketDigest, type KeyView } from './compare.ts';
import {
  comparedColumns,
  digestsSql,
  firstKeySql,
  keysSql,
  looseRecordsSql,
  unversionedSql,
  viewsSql,
} from './digest-sql.ts';

/** A pass over a large table takes long; a node that fell silent is noticed by TCP. */
const answerWithinMs = 3_600_000;
/** A table that somebody rewrites is for the next time: others are to be looked at too. */
const lockTimeoutMs = 10_000;

/** Shard -> the clock of its purge horizon. */
export type Horizons = ReadonlyMap<number, Clock>;

export interface VerifyNodeOptions {
  readonly node: ClusterNode;
  readonly collection: string;
  readonly deep: boolean;
  readonly signal: AbortSignal;
  /** Does it count for the shards that it joins? */
  readonly withJoining?: boolean;
}

interface ViewRow {
  place: number;
  origin: number | null;
  counter: string | null;
  hlc: string | null;
  deleted: boolean | null;
  seen: Clock | null;
  purged: boolean;
  version_hash: string | null;
  present: boolean;
  row_hash: string | null;
  losers: string | null;
}

export class VerifyNode {
  readonly node: ClusterNode;
  readonly table: TargetTable;
  readonly client: pg.Client;
  readonly #deep: boolean;
  readonly #withJoining: boolean;
  /** It is still being filled: what it lacks is no difference. */
  readonly joining: boolean;
  readonly #roles: ReadonlyMap<number, string>;
  #horizons = '{}';

  private constructor(
    options: VerifyNodeOptions,
    client: pg.Client,
    found: { table: TargetTable; roles: ReadonlyMap<number, string>; joining: boolean },
  ) {
    this.node = options.node;
    this.client = client;
    this.#deep = options.deep;
    this.#withJoining = options.withJoining ?? false;
    this.table = found.table;
    this.#roles = found.roles;
    this.joining = found.joining;
  }

  static async open(options: VerifyNodeOptions): Promise<VerifyNode> {
    const { node, collection, deep, signal } = options;
    const client = await connect(node.address, { application: 'pgquorum verify', answerWithinMs });
    const close = (): void => void closeClient(client);
    signal.addEventListener('abort', close, { once: true });
    try {
      signal.throwIfAborted();
      await client.query(`set lock_timeout = ${lockTimeoutMs}`);
      const table = await new TargetCatalog(client).table(collection);
      if (deep) await refuseHidden(client, table, node.name);
      const roles = await client.query<{ shard: number; role: string }>(
        'select shard, role from pgquorum.shard_role where collection = $1',
        [collection],
      );
      const state = await client.query<{ joining: boolean }>(
        'select joining_since is not null as joining from pgquorum.node',
      );
      return new VerifyNode(options, client, {
        table,
        joining: state.rows[0]!.joining,
        roles: new Map(roles.rows.map((row) => [row.shard, row.role])),
      });
    } catch (cause) {
      await closeClient(client);
      throw cause;
    } finally {
      signal.removeEventListener('abort', close);
    }
  }

  get name(): string {
    return this.node.name;
  }

  /** What a node has that gives a shard up is taken from it key by key, each once the replicas have it: there is nothing to compare. */
  holds(shard: number): boolean {
    const role = this.roleOf(shard);
    return !this.joining && (role === 'replica' || (role === 'joining' && this.#withJoining));
  }

  roleOf(shard: number): string {
    return this.#roles.get(shard) ?? 'none';
  }

  /** Names and types of the columns that are compared. */
  get columns(): string {
    return comparedColumns(this.table)
      .map((column) => `${column.name} ${column.type}`)
      .join(', ');
  }

  async readHorizons(): Promise<Horizons> {
    const { rows } = await this.client.query<{ shard: number; clock: Clock }>(
      'select shard, clock from pgquorum.horizon where collection = $1 and shard >= 0',
      [this.table.collection],
    );
    return new Map(rows.map(({ shard, clock }) => [shard, clock]));
  }

  /** By which all nodes are looked at from now on. */
  useHorizons(horizons: Horizons): void {
    this.#horizons = JSON.stringify(Object.fromEntries(horizons));
  }

  async digests(shards: readonly number[]): Promise<BucketDigest[]> {
    const { rows } = await this.client.query<BucketDigest & pg.QueryResultRow>(
      digestsSql(this.table, this.#deep),
      [this.#horizons, shards],
    );
    return rows;
  }

  /** Keys of some buckets of a shard, in key order, with a text that is the same where the key is. */
  async keys(
    place: { readonly shard: number; readonly buckets: readonly number[] },
    bounds: { readonly after: KeyTexts | null; readonly upTo: KeyTexts | null; readonly limit: number },
  ): Promise<{ key: KeyTexts; text: string }[]> {
    const { after, upTo, limit } = bounds;
    const { rows } = await this.client.query<string[]>({
      text: keysSql(this.table, { deep: this.#deep, after: after !== null, upTo: upTo !== null }),
      values: [this.#horizons, place.shard, place.buckets, limit, ...(after ?? []), ...(upTo ?? [])],
      rowMode: 'array',
    });
    return rows.map((row) => ({ key: row.slice(0, -1), text: row.at(-1)! }));
  }

  async firstOf(keys: readonly KeyTexts[]): Promise<KeyTexts> {
    const { rows } = await this.client.query<string[]>({
      text: firstKeySql(this.table),
      values: this.#arrays(keys),
      rowMode: 'array',
    });
    return rows[0]!;
  }

  /** Key text -> what is here. */
  async views(keys: readonly KeyTexts[]): Promise<Map<string, KeyView>> {
    const { rows } = await this.client.query<ViewRow & pg.QueryResultRow>(viewsSql(this.table, this.#deep), [
      this.#horizons,
      ...this.#arrays(keys),
    ]);
    return new Map(rows.map((row) => [keyText(keys[row.place - 1]!), viewOf(row)]));
  }

  async unversioned(limit: number): Promise<{ key: KeyTexts; shard: number }[]> {
    const { rows } = await this.client.query<unknown[]>({
      text: unversionedSql(this.table),
      values: [limit],
      rowMode: 'array',
    });
    return rows.map((row) => ({ key: row.slice(0, -1) as string[], shard: row.at(-1) as number }));
  }

  /** Keys that have open records and no version. */
  async looseRecords(
    place: { readonly shard: number; readonly buckets: readonly number[] },
    limit: number,
  ): Promise<KeyTexts[]> {
    const { rows } = await this.client.query<{ key: KeyTexts }>(looseRecordsSql(this.table), [
      place.shard,
      place.buckets,
      limit,
    ]);
    return rows.map((row) => row.key);
  }

  #arrays(keys: readonly KeyTexts[]): string[][] {
    return this.table.key.map((_, at) => keys.map((key) => key[at]!));
  }

  async close(): Promise<void> {
    await closeClient(this.client);
  }
}

function viewOf(row: ViewRow): KeyView {
  if (row.origin === null)
    return { ...absentView, present: row.present, rowHash: row.row_hash, losers: row.losers ?? '' };
  return {
    version: { dot: `${row.origin}.${row.counter}`, hlc: row.hlc!, deleted: row.deleted! },
    seen: row.seen!,
    purged: row.purged,
    versionHash: row.version_hash,
    losers: row.losers ?? '',
    present: row.present,
    rowHash: row.row_hash,
  };
}

async function refuseHidden(client: pg.Client, table: TargetTable, node: string): Promise<void> {
  const { rows } = await client.query<{ hidden: boolean }>(
    'select row_security_active($1::regclass) as hidden',
    [quoteTable({ schema: table.schema, name: table.table })],
  );
  if (rows[0]!.hidden)
    throw new PgquorumError(
      'schema_drift',
      `row-level security may hide rows of ${table.schema}.${table.table} on ${node}: they would be taken for missing`,
    );
}
