/** The full state of a master, for comparing masters in full. */
import pg from 'pg';
import type { TestNode } from '#core/testing/masters.pg.ts';
import type { FinalRecord, FinalState, FinalVersion } from './ledger.ts';

export interface MasterState {
  readonly rows: readonly string[];
  readonly versions: readonly string[];
  /** Open ones: which of the superseded a master knows depends on what it saw before it saw what superseded them. */
  readonly records: readonly string[];
  readonly parked: number;
  readonly deadLetters: number;
  readonly problems: readonly string[];
}

export async function withClient<T>(
  master: Pick<TestNode, 'url'>,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionString: master.url, application_name: 'audit' });
  client.on('error', () => undefined); // the query that notices rejects
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const lines = async (client: pg.Client, sql: string): Promise<string[]> =>
  (await client.query<{ line: string }>(sql)).rows.map((row) => row.line);

export const readState = (master: TestNode, collection: string): Promise<MasterState> =>
  withClient(master, async (client) => ({
    rows: await lines(
      client,
      `select (t.id, t.embedding, t.metadata)::text as line from public.${collection} t order by t.id`,
    ),
    versions: await lines(
      client,
      `select (v.id, v.rank, v.epoch, v.hlc, v.origin, v.counter, v.clock, coalesce(v.seen, v.clock), v.deleted, v.shard, v.request, v.crdt)::text as line from pgquorum.version_${collection} v order by v.id`,
    ),
    records: await lines(
      client,
      `select (c.id, c.key, c.loser_hlc, c.loser_origin, c.loser_counter, c.loser_clock, c.loser_deleted, c.loser_row)::text as line from pgquorum.conflict c where c.collection = '${collection}' and c.state = 'open' order by c.id`,
    ),
    parked: (await client.query<{ count: number }>('select count(*)::int as count from pgquorum.parked'))
      .rows[0]!.count,
    deadLetters: (
      await client.query<{ count: number }>('select count(*)::int as count from pgquorum.dead_letter')
    ).rows[0]!.count,
    problems: await lines(
      client,
      `select s.origin || ': ' || s.problem as line from pgquorum.source s where s.problem is not null`,
    ),
  }));

export const readFinal = (master: TestNode, collection: string): Promise<FinalState> =>
  withClient(master, async (client) => {
    const versions = await client.query<FinalVersion>(
      `select id as key, origin, counter::text as counter, clock, deleted from pgquorum.version_${collection}`,
    );
    const records = await client.query<FinalRecord>(
      `select key, loser_origin as origin, loser_counter::text as counter, loser_clock as clock, loser_deleted as deleted, loser_row as row, state from pgquorum.conflict where collection = $1`,
      [collection],
    );
    const rows = await client.query<{ id: string; marker: string }>(
      `select id, metadata ->> 'w' as marker from public.${collection}`,
    );
    return {
      versions: versions.rows,
      records: records.rows,
      rows: new Map(rows.rows.map((row) => [row.id, row.marker])),
    };
  });

/** Lines that one has and the other has not, at most a few. */
export function difference(a: readonly string[], b: readonly string[]): string[] {
  const left = new Set(a);
  const right = new Set(b);
  const short = (line: string): string =>
    line.length > 300 ? `${line.slice(0, 120)} … ${line.slice(-170)}` : line;
  return [
    ...a.filter((line) => !right.has(line)).map((line) => `- ${short(line)}`),
    ...b.filter((line) => !left.has(line)).map((line) => `+ ${short(line)}`),
  ].slice(0, 12);
}
