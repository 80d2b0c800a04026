/**
 * What stands here for the keys of a batch: rows and versions locked in the order that users' statements take them, then read. The order of the statements
 * is the point: see transaction.pg.ts.
 */
import { keyText, type ConflictRecord } from '../changelog/change.ts';
import { conflictJsonSql, recordFromJson, type ConflictJson } from '../conflicts/record.ts';
import { PgquorumError } from '../errors/error.ts';
import { covers, type Clock } from '../versioning/clock.ts';
import type { CrdtState } from '../versioning/crdt/state.ts';
import type { RequestWrite } from '../versioning/merge.ts';
import type { PurgeHorizon } from '../versioning/purge.ts';
import type { Epoch, HlcValue, NodeNumber } from '../versioning/version.ts';
import { textArray, uuidArray } from '../postgres/binary-array.ts';
import { quoteTable } from '../postgres/identifier.ts';
import type { CollectionStatements } from './collection-statements.pg.ts';
import { readEarlier, readHorizons } from './earlier.pg.ts';
import { requestsOf, type KeyWork, type LocalVersion } from './key-work.ts';
import type { ShardRole } from '../shards/entry.ts';
import { LocalWriteSlippedIn, UnversionedRows } from './outcomes.ts';
import * as sql from './statements.ts';

interface RequestRow {
  key: string;
  request: string;
  origin: number;
  counter: string;
  hlc: string;
  clock?: Clock;
}

const losersSql = `select ${conflictJsonSql('c')} as record from pgquorum.conflict c where c.collection = $1 and c.key = any($2::text[]) and c.state = 'open'`;

export class LocalStates {
  readonly present = new Set<string>();
  readonly versions = new Map<string, LocalVersion>();
  readonly openLosers = new Map<string, ConflictRecord[]>();
  readonly requests = new Map<string, Map<string, RequestWrite[]>>();
  horizons: ReadonlyMap<number, PurgeHorizon> = new Map();
  /** Rows that were gone behind the triggers' back, with nothing lost by it. */
  vanished = 0;
  userTriggers = false;
  private readonly statements: CollectionStatements;
  /** What this node is for the shards of the batch, to the end of the transaction. */
  roles: ReadonlyMap<number, ShardRole> = new Map();

  constructor(statements: CollectionStatements) {
    this.statements = statements;
  }

  /** Sends every locking and reading statement at once. Gives back what an earlier collection of this name had reached. `others` are shards whose role is asked too. */
  async read(keys: ReadonlyMap<string, KeyWork>, others: ReadonlySet<number>): Promise<Clock> {
    const { session, table } = this.statements;
    if (keys.size === 0) return this.readNoKeys(others);
    const works = [...keys.values()];
    const places = [...new Set([...works.map((work) => work.shard), ...others])].sort((a, b) => a - b);
    const [shards, rows, , versions, tableNow, losers, requests, horizons] = await settled([
      this.shards(places),
      ...this.lockedReads(works),
      session.client.query<{ record: ConflictJson }>({
        name: 'losers',
        text: losersSql,
        values: [table.collection, textArray([...keys.keys()])],
      }),
      this.knownRequests(works),
      // Last: the locks keep the table from being dropped and made anew after this, and versions that were not found may have been purged before it.
      readHorizons(session, table.collection, places),
    ]);
    this.noteRoles(places, shards.rows);
    const [attributes, userTriggers] = (tableNow.rows[0] ?? []) as [number?, boolean?];
    if (attributes !== table.attributes) {
      session.catalog.forget(table.collection);
      throw new LocalWriteSlippedIn(`table ${table.schema}.${table.table} has other columns now`);
    }
    this.userTriggers = userTriggers === true;
    const width = table.key.length;
    for (const row of rows.rows) this.present.add(keyText(row as string[]));
    for (const row of versions.rows)
      this.versions.set(keyText(row.slice(0, width) as string[]), readVersion(row.slice(width)));
    for (const { record } of losers.rows) push(this.openLosers, record.key, recordFromJson(record));
    for (const row of requests) this.note(row);
    this.horizons = horizons.purged;
    return horizons.earlier;
  }

  private async readNoKeys(others: ReadonlySet<number>): Promise<Clock> {
    const { session, table } = this.statements;
    const places = [...others].sort((a, b) => a - b);
    const [earlier, shards] = await settled([
      readEarlier(session, table.collection),
      places.length === 0 ? Promise.resolve({ rows: [] }) : this.shards(places),
    ]);
    this.noteRoles(places, shards.rows);
    return earlier;
  }

  private noteRoles(
    asked: readonly number[],
    rows: readonly { readonly shard: number; readonly role: ShardRole }[],
  ): void {
    this.roles = new Map(rows.map((row) => [row.shard, row.role]));
    this.statements.session.roles.note(this.statements.table.collection, asked, this.roles);
  }

  private shards(shards: readonly number[]) {
    const { session, table } = this.statements;
    return session.client.query<{ shard: number; role: ShardRole }>({
      name: 'shards',
      text: sql.checkShardsSql,
      values: [table.collection, shards],
    });
  }

  private lockedReads(works: readonly KeyWork[]) {
    const { session, table } = this.statements;
    const keys = this.statements.keyArrays(works.map((work) => work.key));
    const query = (name: string, text: string, values: unknown[]) =>
      session.client.query<unknown[]>({ name: this.statements.named(name), text, values, rowMode: 'array' });
    return [
      query('lockr', sql.lockRowsSql(table), keys),
      query('lockv', sql.lockVersionsSql(table), keys),
      query('readv', sql.readVersionsSql(table), keys),
      query('tnow', sql.tableNowSql(table, session.replicaRole), []),
    ] as const;
  }

  private async knownRequests(works: readonly KeyWork[]): Promise<RequestRow[]> {
    const { session, table } = this.statements;
    const named = requestsOf(works.flatMap((work) => work.writes));
    if (named.length === 0) return [];
    const values = [
      table.collection,
      textArray(named.map((one) => one.key)),
      uuidArray(named.map(({ write }) => write.request)),
    ];
    return (await session.client.query<RequestRow>({ name: 'requests', text: sql.knownRequestsSql, values }))
      .rows;
  }

  /**
   * Before an operation counts as undone and seen by nobody: a write that had seen it may have been dropped here as a repeat of its request, and be remembered there
   * alone. False when there is none to know of.
   */
  async readRequestClocks(keys: readonly string[]): Promise<boolean> {
    const { session, table } = this.statements;
    const { rows } = await session.run<RequestRow>('clocks', sql.requestClocksSql, [
      table.collection,
      textArray(keys),
    ]);
    for (const row of rows) this.note(row);
    return rows.length > 0;
  }

  private note(row: RequestRow): void {
    let known = this.requests.get(row.key);
    if (known === undefined) this.requests.set(row.key, (known = new Map()));
    push(known, row.request, {
      dot: { origin: row.origin as NodeNumber, counter: Number(row.counter) },
      hlc: BigInt(row.hlc) as HlcValue,
      clock: row.clock,
    });
  }

  /** Before anything is planned: rows and versions have to agree. */
  async check(keys: ReadonlyMap<string, KeyWork>): Promise<void> {
    const unversioned: (readonly string[])[] = [];
    const disagreeing: KeyWork[] = [];
    for (const [text, work] of keys) {
      const version = this.versions.get(text);
      const present = this.present.has(text);
      if (present && version === undefined) unversioned.push(work.key);
      else if (present !== (version !== undefined && !version.version.deleted)) disagreeing.push(work);
    }
    if (disagreeing.length > 0) unversioned.push(...(await this.behindTriggers(disagreeing)));
    if (unversioned.length > 0) throw new UnversionedRows(this.statements.table.collection, unversioned);
  }

  /**
   * Row and version were read one after the other, so usually a user's transaction was committed in between: start over. When they disagree within one
   * snapshot too, the row came or went behind the triggers' back. A row that is gone takes nothing with it where what came has seen its version;
   * everything else is for stamping, since it would be overwritten unrecorded.
   */
  private async behindTriggers(works: readonly KeyWork[]): Promise<(readonly string[])[]> {
    const { session, table } = this.statements;
    const found = await session.client.query<string[]>({
      text: sql.disagreeingSql(table),
      values: this.statements.keyArrays(works.map((work) => work.key)),
      rowMode: 'array',
    });
    const real = new Set(found.rows.map((row) => keyText(row)));
    if (works.some((work) => !real.has(keyText(work.key))))
      throw new LocalWriteSlippedIn(`presence of a row of ${table.collection} changed`);
    const hidden = await session.client.query<{ hidden: boolean }>(
      'select row_security_active($1::regclass) as hidden',
      [quoteTable({ schema: table.schema, name: table.table })],
    );
    if (hidden.rows[0]!.hidden)
      throw new PgquorumError(
        'schema_drift',
        `row-level security may hide rows of ${table.schema}.${table.table} from the replicator: they would be taken for deleted`,
      );
    const harmless = works.filter((work) => {
      const { version } = this.versions.get(keyText(work.key))!;
      return !version.deleted && work.writes.some((write) => covers(write.version.clock, version.dot));
    });
    this.vanished = harmless.length;
    return works.filter((work) => !harmless.includes(work)).map((work) => work.key);
  }
}

type Settled<T extends readonly unknown[]> = { -readonly [K in keyof T]: Awaited<T[K]> };

/** Waits for all, also after the first failure: nothing may still be on its way when the transaction is rolled back. */
export async function settled<T extends readonly unknown[]>(sent: readonly [...T]): Promise<Settled<T>> {
  const results: PromiseSettledResult<unknown>[] = await Promise.allSettled(sent);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  return results.map((result) => (result as PromiseFulfilledResult<unknown>).value) as Settled<T>;
}

function push<V>(map: Map<string, V[]>, key: string, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function readVersion(row: unknown[]): LocalVersion {
  const [rank, epoch, hlc, origin, counter, clockText, seenText, deleted, request, crdt] = row as [
    number,
    string,
    string,
    number,
    string,
    string,
    string | null,
    boolean,
    string | null,
    string | null,
  ];
  const clock = JSON.parse(clockText) as Clock;
  return {
    version: {
      rank,
      epoch: BigInt(epoch) as Epoch,
      hlc: BigInt(hlc) as HlcValue,
      dot: { origin: origin as NodeNumber, counter: Number(counter) },
      clock,
      deleted,
      request,
      crdt: crdt === null ? null : (JSON.parse(crdt) as CrdtState),
    },
    seen: seenText === null ? clock : (JSON.parse(seenText) as Clock),
    seenText: seenText ?? clockText,
  };
}
