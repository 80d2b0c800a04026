/** Random statements on a real Postgres: the triggers make of them what the model of a local write (versioning/local-write.ts) predicts. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { goldenKeyHashes } from '#core/placement/golden-key-hashes.testing.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { ModelledTable, type Statement, type Step } from './trigger-model/table.ts';

const keys = ['a', 'b', 'c', 'd', ''];
const runs = process.env['PGQUORUM_TEST_LONG'] === '1' ? 500 : 25;

const statements: fc.Arbitrary<Statement> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('insert', 'upsert', 'update', 'delete', 'merge'),
      keys: fc.uniqueArray(fc.constantFrom(...keys), { maxLength: 4 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('rename'),
      from: fc.constantFrom(...keys),
      to: fc.constantFrom(...keys, 'renamed'),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'truncate' }) },
);
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('transaction'),
      statements: fc.array(statements, { minLength: 1, maxLength: 3 }),
      ends: fc.constantFrom('commit', 'commit', 'commit', 'rollback'),
      request: fc.option(fc.uuid()),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('arrival'),
      key: fc.constantFrom(...keys),
      origin: fc.integer({ min: 2, max: 4 }),
      rank: fc.integer({ min: 0, max: 2 }),
      epoch: fc.integer({ min: 0, max: 2 }),
      aheadMs: fc.constantFrom(-60_000, 60_000, 3_600_000),
      ownAhead: fc.constantFrom(0, 0, 0, 50),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('loser'),
      key: fc.constantFrom(...keys),
      origin: fc.integer({ min: 2, max: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('horizon'), aheadMs: fc.constantFrom(-1_000, 5_000) }),
  },
);

describe.each([18, 16] as const)('on Postgres %i', (major) => {
  let cluster: TestCluster;
  let tables = 0;

  beforeAll(async () => {
    cluster = await foundTestCluster({ count: 1, major });
  }, 120_000);
  afterAll(() => cluster[Symbol.asyncDispose](), 60_000);

  test('random statements give the versions that the model predicts', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { minLength: 4, maxLength: 14 }), async (history) => {
        const name = `model${++tables}`;
        await cluster.create(name);
        const client = await cluster.client(0);
        const table = new ModelledTable(client, name);
        for (const step of history) await table.take(step);
        await client.end();
      }),
      { numRuns: runs, endOnFailure: false },
    );
  }, 600_000);

  test('the hash of a key is the golden one', async () => {
    for (const [text, hash] of goldenKeyHashes) {
      const [row] = await cluster.query<{ text: string; hash: string }>(
        0,
        'select pgquorum.key_text($1) as text, pgquorum.key_hash($1)::text as hash',
        [text],
      );
      expect(row).toEqual({ text, hash: String(hash) });
    }
    const [composite] = await cluster.query<{ text: string }>(
      0,
      `select pgquorum.key_text('a', 'b') as text`,
    );
    expect(goldenKeyHashes.map(([text]) => text)).toContain(composite!.text);
  });
});
