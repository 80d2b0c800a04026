/**
 * A column comes to a table while writes conflict: some masters record the loser before they have the column, others after. The records are the same on all
 * masters in the end, and can be restored.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { createLogger } from '#core/observability/logger.process.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';

let fresh: FreshNodes;
let gateway: TestGateway;
let replicator: INestApplicationContext | null = null;

beforeAll(async () => {
  fresh = await freshNodes({ count: 3 });
  gateway = await startGateway({ nodes: fresh.nodes, cluster: fresh.cluster });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
}, 120_000);

afterAll(async () => {
  await replicator?.close();
  await gateway[Symbol.asyncDispose]();
  await fresh[Symbol.asyncDispose]();
});

async function replicate(nodes: string): Promise<void> {
  await replicator?.close();
  replicator = await startReplicator(
    settingsFor(fresh.nodes, fresh.cluster, { PGQUORUM_REPLICATOR_NODES: nodes }),
    createLogger({ app: 'test', level: 'silent' }),
  );
}

interface Stored {
  readonly id: string;
  readonly state: string;
  readonly row: Record<string, string | null> | null;
}

const records = (node: number, key: string) =>
  gateway.sql<Stored>(
    node,
    'select id, state, loser_row as row from pgquorum.conflict where key = $1 order by loser_origin',
    [key],
  );

/** A write that its own master has overwritten may have been recorded on the way, and closed. */
const openRecords = async (node: number, key: string): Promise<Stored[]> =>
  (await records(node, key)).filter(({ state }) => state === 'open');

const recordsOf = async (node: number, key: string, count: number): Promise<Stored[]> =>
  eventually(
    `node ${node} has ${count} open records of ${key}`,
    async () => {
      const found = await openRecords(node, key);
      return found.length === count && found;
    },
    { withinMs: 60_000 },
  );

const add = (node: number) =>
  gateway.sql(
    node,
    `alter table docs add lang text, add "n Ü" numeric(6,2) not null default 7.5, add tags text[] default '{a,b}',
       add twice int generated always as (length(id) * 2) stored`,
  );

test('a loser that was recorded before a column came is the same record where it was recorded after', async () => {
  // The third wins; the losers of the others meet it on each master at another time.
  for (const node of [0, 1, 2])
    await gateway.sql(
      node,
      `insert into docs (id, embedding, metadata) values ('k', '[1,2,3]', $1), ('gone', '[1,2,3]', $1)`,
      [{ by: node }],
    );
  await gateway.sql(1, `delete from docs where id = 'gone'`);
  await replicate('n1');
  await recordsOf(0, 'k', 2);
  for (const node of [0, 1, 2]) await add(node);
  await replicate('n1,n2,n3');
  for (const key of ['k', 'gone']) {
    for (const node of [1, 2]) await recordsOf(node, key, 2);
    let seen: Stored[][] = [];
    await eventually(
      `the records of ${key} are the same`,
      async () => {
        seen = await Promise.all([0, 1, 2].map((node) => openRecords(node, key)));
        return seen.every((other) => JSON.stringify(other) === JSON.stringify(seen[0]));
      },
      { withinMs: 60_000 },
    ).catch((cause: unknown) => {
      throw new Error(JSON.stringify(seen), { cause });
    });
  }
  const [first] = await records(0, 'k');
  expect(first).toMatchObject({
    state: 'open',
    row: { id: 'k', embedding: '[1,2,3]', metadata: '{"by": 0}', lang: null, 'n Ü': '7.50', tags: '{a,b}' },
  });
  // What each master computes is in no record.
  expect(Object.keys(first!.row!)).not.toContain('twice');
}, 180_000);

test('such a record is restored with the value that rows of before have, whatever the winner has by now', async () => {
  await gateway.sql(2, `update docs set "n Ü" = 3, lang = 'de', tags = null where id = 'k'`);
  await eventually(
    'its losers have been seen everywhere',
    async () => {
      const all = await Promise.all([0, 1, 2].map((node) => records(node, 'k')));
      return all.flat().every(({ state }) => state === 'superseded');
    },
    { withinMs: 60_000 },
  );
  const [first] = await records(0, 'k');
  const restored = await gateway.send('POST', `/v1/conflicts/${first!.id}/restore`);
  expect([restored.status, restored.body]).toMatchObject([200, { id: first!.id, key: 'k' }]);
  for (const node of [0, 1, 2])
    await eventually(
      `it is back on node ${node}`,
      async () => {
        const [row] = await gateway.sql<{ by: number; lang: string | null; n: string; tags: string[] }>(
          node,
          `select (metadata ->> 'by')::int as by, lang, "n Ü"::text as n, tags from docs where id = 'k'`,
        );
        return JSON.stringify(row) === JSON.stringify({ by: 0, lang: null, n: '7.50', tags: ['a', 'b'] });
      },
      { withinMs: 60_000 },
    );
}, 180_000);
