/** What a resolution writes and closes, on one master. The records are put in as apply would leave them. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import pg from 'pg';
import { readCollection } from '#core/collections/catalog.pg.ts';
import { resolveKey, type ResolveKeyOptions, type ResolveKeyOutcome } from '#core/conflicts/resolution.pg.ts';
import { conflictId } from '#core/versioning/conflict-id.ts';
import type { Clock } from '#core/versioning/clock.ts';
import type { Dot } from '#core/versioning/version.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;
let client: pg.Client;

beforeAll(async () => {
  gateway = await freshGateway({ count: 1 });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
  await gateway.send('PUT', '/v1/collections/siblings', {
    body: { dimension: 3, conflicts: { strategy: 'vector-clock' } },
  });
  client = new pg.Client(gateway.nodes[0]!.url);
  await client.connect();
}, 120_000);

afterAll(async () => {
  await client.end();
  await gateway[Symbol.asyncDispose]();
});

let counter = 5000;

/** A row, if one is given, and two open losers of its key, which it has seen. */
async function contended(collection: string, key: string, metadata: string | null): Promise<Dot> {
  await client.query(`insert into ${collection} (id, embedding, metadata) values ($1, '[1,2,3]', $2)`, [
    key,
    metadata ?? '{}',
  ]);
  if (metadata === null) await client.query(`delete from ${collection} where id = $1`, [key]);
  const losers = [++counter, ++counter];
  for (const loser of losers) {
    await client.query(
      `insert into pgquorum.conflict (id, collection, key, key_texts, shard, kind, loser_rank, loser_epoch, loser_hlc, loser_origin, loser_counter, loser_clock, loser_deleted, loser_row,
         winner_hlc, winner_origin, winner_counter, state, state_hlc, state_origin, decided_by, reason, applied)
       values ($1, $2, $3, jsonb_build_array($3::text), pgquorum.key_hash($3) % 64, 'update-update', 0, 0, 5, 3, $4, jsonb_build_object('3', $4::bigint), false,
         jsonb_build_object('id', $3::text, 'embedding', '[7,8,9]', 'metadata', '{"lost": 1}'), 6, 1, 7, 'open', 6, 1, 'lww', 'older', true)`,
      [conflictId(collection, key, { origin: 3, counter: loser }), collection, key, loser],
    );
  }
  const { rows } = await client.query<{ origin: number; counter: string }>(
    `update pgquorum.version_${collection} v set seen = clock || jsonb_build_object('3', $2::bigint), applied = true where id = $1 returning origin, counter`,
    [key, losers[1]],
  );
  return { origin: rows[0]!.origin, counter: Number(rows[0]!.counter) } as Dot;
}

async function resolve(
  collection: string,
  key: string,
  row: ResolveKeyOptions['row'],
  expectedWinner?: Dot,
): Promise<ResolveKeyOutcome> {
  const { table } = (await readCollection(client, collection))!;
  await client.query('begin');
  const outcome = await resolveKey(client, {
    table,
    key: [key],
    row,
    decidedBy: 'tester',
    reason: 'it was tested',
    ...(expectedWinner === undefined ? {} : { expectedWinner }),
  });
  await client.query('commit');
  return outcome;
}

interface Version {
  counter: string;
  clock: Clock;
  seen: Clock | null;
  deleted: boolean;
  applied: boolean;
}

async function state(collection: string, key: string) {
  const records = await client.query<Record<string, unknown>>(
    'select state, decided_by, reason, applied, state_hlc, state_origin from pgquorum.conflict where collection = $1 and key = $2 order by loser_counter',
    [collection, key],
  );
  const versions = await client.query<Version & { hlc: string }>(
    `select hlc, counter, clock, seen, deleted, applied from pgquorum.version_${collection} where id = $1`,
    [key],
  );
  const rows = await client.query<object>(
    `select embedding::text, metadata::text from ${collection} where id = $1`,
    [key],
  );
  return { records: records.rows, version: versions.rows[0]!, row: rows.rows[0] ?? null };
}

const cases = [
  {
    what: 'keeps the row',
    before: '{"won": 1}',
    row: { kind: 'keep' },
    after: { embedding: '[1,2,3]', metadata: '{"won": 1}' },
  },
  {
    what: 'changes the named columns of the row',
    before: '{"won": 1}',
    row: { kind: 'patch', columns: { metadata: '{"both": 2}' } },
    after: { embedding: '[1,2,3]', metadata: '{"both": 2}' },
  },
  {
    what: 'writes a whole row over a row',
    before: '{"won": 1}',
    row: { kind: 'row', row: { embedding: '[4,5,6]', metadata: '{"whole": 3}' } },
    after: { embedding: '[4,5,6]', metadata: '{"whole": 3}' },
  },
  { what: 'deletes the row', before: '{"won": 1}', row: { kind: 'deleted' }, after: null },
  { what: 'keeps a tombstone', before: null, row: { kind: 'keep' }, after: null },
  { what: 'keeps a deleted key deleted', before: null, row: { kind: 'deleted' }, after: null },
  {
    what: 'writes a whole row over a tombstone',
    before: null,
    row: { kind: 'row', row: { embedding: '[4,5,6]', metadata: '{"whole": 3}' } },
    after: { embedding: '[4,5,6]', metadata: '{"whole": 3}' },
  },
  {
    what: 'puts the named columns and a base over a tombstone',
    before: null,
    row: {
      kind: 'patch',
      columns: { metadata: '{"both": 2}' },
      base: { embedding: '[7,8,9]', metadata: '{"lost": 1}' },
    },
    after: { embedding: '[7,8,9]', metadata: '{"both": 2}' },
  },
] as const;

for (const collection of ['docs', 'siblings'])
  for (const { what, before, row, after } of cases)
    test(`in ${collection}, a resolution that ${what} dominates all that was seen and closes every open record`, async () => {
      const winner = await contended(collection, what, before);
      const outcome = await resolve(collection, what, row, winner);
      const { records, version, row: now } = await state(collection, what);
      expect(now).toEqual(after);
      expect(outcome).toMatchObject({ kind: 'resolved', version: { counter: version.counter } });
      expect(version).toMatchObject({ seen: null, deleted: after === null, applied: false });
      expect(Number(version.counter)).toBeGreaterThan(winner.counter);
      expect(version.clock).toEqual({ 1: Number(version.counter), 3: counter });
      const closed = {
        state: 'resolved',
        decided_by: 'tester',
        reason: 'it was tested',
        applied: false,
        state_hlc: version.hlc,
        state_origin: 1,
      };
      expect(records).toEqual([closed, closed]);
    });

test('a resolution of another winner than the expected one changes nothing', async () => {
  const winner = await contended('docs', 'moved', '{}');
  const before = await state('docs', 'moved');
  const outcome = await resolve(
    'docs',
    'moved',
    { kind: 'deleted' },
    { ...winner, counter: winner.counter - 1 },
  );
  expect(outcome).toMatchObject({ kind: 'winner-changed', current: { counter: String(winner.counter) } });
  expect(await state('docs', 'moved')).toEqual(before);
});

test('a tombstone whose sequence went back gets a dot that was never used', async () => {
  await contended('docs', 'behind', null);
  await client.query(
    `update pgquorum.version_docs set clock = clock || '{"1": 90000}', seen = seen || '{"1": 90000}' where id = 'behind'`,
  );
  await resolve('docs', 'behind', { kind: 'keep' });
  expect(Number((await state('docs', 'behind')).version.counter)).toBeGreaterThan(90_000);
});

test('a key that was never written here can not be kept', async () => {
  const { table } = (await readCollection(client, 'docs'))!;
  await client.query('begin');
  await expect(
    resolveKey(client, {
      table,
      key: ['nowhere'],
      row: { kind: 'keep' },
      decidedBy: 'tester',
      reason: 'none',
    }),
  ).rejects.toMatchObject({ code: 'conflict_not_resolvable' });
  await client.query('rollback');
});
