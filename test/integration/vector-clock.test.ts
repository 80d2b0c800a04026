/**
 * The strategy vector-clock from end to end: concurrent writes stay siblings on every master, whatever is written over them, until a call resolves
 * them. Through both change logs, with replicators that stop and start.
 */
import { describe, expect, test } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { createLogger } from '#core/observability/logger.process.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { changeLogs, type LogName } from '#core/testing/change-logs.os.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { REPLICATION, type Replication } from '../../apps/replicator/src/tokens.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';

const logs = await changeLogs();
const all = [0, 1, 2];

interface World extends AsyncDisposable {
  readonly gateway: TestGateway;
  replicate(): Promise<INestApplicationContext>;
}

async function makeWorld(log: LogName): Promise<World> {
  const brokers = log === 'kafka' ? (await sharedKafka()).brokers : null;
  const fresh = await freshNodes({ count: 3 });
  const env = {
    PGQUORUM_HEARTBEAT_INTERVAL_MS: '100',
    ...(brokers === null
      ? {}
      : { PGQUORUM_KAFKA_BROKERS: brokers.join(','), PGQUORUM_KAFKA_PARTITIONS: '2' }),
  };
  const gateway = await startGateway({ nodes: fresh.nodes, cluster: fresh.cluster, env, below: fresh });
  const running: INestApplicationContext[] = [];
  return {
    gateway,
    replicate: async () => {
      const replicator = await startReplicator(
        settingsFor(fresh.nodes, fresh.cluster, env),
        createLogger({ app: 'test', level: 'silent' }),
      );
      running.push(replicator);
      return replicator;
    },
    [Symbol.asyncDispose]: async () => {
      for (const replicator of running) await replicator.close();
      await gateway[Symbol.asyncDispose]();
    },
  };
}

interface Read {
  metadata: object;
  version: { text: string };
  siblings: { conflictId: string; metadata: object | null; deleted?: true }[];
}

/** Row, version and records of the key as a master has them. What an open record lost to depends on what a master heard of first. */
const stateOf = async ({ gateway }: World, node: number): Promise<object> => ({
  rows: await gateway.sql(node, `select id, embedding::text, metadata from docs`),
  versions: await gateway.sql(
    node,
    `select id, hlc, origin, counter, clock, coalesce(seen, clock) as seen, deleted from pgquorum.version_docs`,
  ),
  records: await gateway.sql(
    node,
    `select id, key, state, loser_row, loser_clock, case when state = 'resolved' then jsonb_build_array(state_hlc, state_origin, decided_by, reason) end as decision
     from pgquorum.conflict order by id`,
  ),
});

async function alike(world: World): Promise<void> {
  await eventually('all masters hold the same', async () => {
    const [first, ...others] = await Promise.all(all.map((node) => stateOf(world, node)));
    const texts = others.map((other) => JSON.stringify(other));
    return texts.every((text) => text === JSON.stringify(first));
  });
}

const everywhere = (world: World, what: string, condition: string): Promise<unknown> =>
  eventually(
    what,
    async () => {
      for (const node of all) {
        const [row] = await world.gateway.sql<{ holds: boolean }>(node, `select ${condition} as holds`);
        if (row?.holds !== true) return false;
      }
      return true;
    },
    { withinMs: 60_000 },
  );

const openOnes = (count: number): string =>
  `(select count(*) from pgquorum.conflict where state = 'open') = ${count}`;

describe.each(logs)('through %s', (log) => {
  test('siblings stay open on all masters through later writes, until a call resolves them on all', async () => {
    await using world = await makeWorld(log);
    const { gateway } = world;
    await gateway.send('PUT', '/v1/collections/docs', {
      body: { dimension: 3, conflicts: { strategy: 'vector-clock' } },
    });
    const read = async (): Promise<Read> =>
      (await gateway.send('GET', '/v1/collections/docs/vectors/k?include=siblings')).body as Read;
    const first = await world.replicate();
    await gateway.sql(0, `insert into docs values ('k', '[0,0,1]', '{"by": "first"}')`);
    await everywhere(world, 'the first write is everywhere', `exists (select from docs where id = 'k')`);
    await first.close();
    await gateway.sql(0, `update docs set metadata = '{"by": "n1"}' where id = 'k'`);
    await gateway.sql(1, `delete from docs where id = 'k'`);
    await gateway.sql(2, `update docs set metadata = '{"by": "n3"}' where id = 'k'`);

    const second = await world.replicate();
    await everywhere(world, 'two siblings are open', openOnes(2));
    await alike(world);
    const siblings = (await read()).siblings;
    expect(siblings.map(({ metadata, deleted }) => ({ metadata, deleted }))).toEqual([
      { metadata: { by: 'n1' }, deleted: undefined },
      { metadata: null, deleted: true },
    ]);
    expect(await read()).toMatchObject({ metadata: { by: 'n3' } });

    await gateway.send('POST', '/v1/collections/docs/vectors', {
      body: { vectors: [{ id: 'k', embedding: [1, 2, 3], metadata: { by: 'on top' } }] },
    });
    const onTop = `exists (select from docs where metadata ->> 'by' = 'on top')`;
    await everywhere(world, 'a write on top is everywhere, and siblings stay', `${onTop} and ${openOnes(2)}`);
    await alike(world);
    expect(await read()).toMatchObject({ metadata: { by: 'on top' }, siblings });

    // Siblings come through a restart of replication too, and nothing that is told again opens more.
    await second.close();
    const third = await world.replicate();
    const { conflictId } = siblings[0]!;
    const resolved = await gateway.send('POST', `/v1/conflicts/${conflictId}/resolve`, {
      body: { metadata: { by: 'all' } },
    });
    expect(resolved).toMatchObject({ status: 200, body: { key: 'k', deleted: false } });
    const done = `exists (select from docs where metadata ->> 'by' = 'all' and embedding = '[1,2,3]')`;
    await everywhere(
      world,
      'the resolution is everywhere',
      `${done} and (select count(*) from pgquorum.conflict where state = 'resolved' and decided_by = 'user') = 2 and ${openOnes(0)}`,
    );
    await alike(world);
    expect((await read()).siblings).toEqual([]);

    const { metrics } = second.get<Replication>(REPLICATION);
    const found = (await metrics.conflicts.get()).values.map(({ labels, value }) => ({ ...labels, value }));
    const total = (target: string): number =>
      found.reduce(
        (sum, { target: to, collection, value }) =>
          sum + (to === target && collection === 'docs' ? value : 0),
        0,
      );
    // A master may be told of a sibling before it finds it itself: then it has not found it.
    const totals = ['n1', 'n2', 'n3'].map(total);
    expect(Math.max(...totals)).toBeLessThanOrEqual(2);
    expect(totals.reduce((sum, one) => sum + one, 0)).toBeGreaterThanOrEqual(2);
    expect(found.every(({ kind }) => /^(update|delete)-(update|delete)$/.test(String(kind)))).toBe(true);
    const text = await eventually('housekeeping has counted', async () => {
      const now = await third.get<Replication>(REPLICATION).metrics.registry.metrics();
      return /pgquorum_conflicts_open\{node="n1",collection="docs"[^}]*\} 0/.test(now) && now;
    });
    expect(text).not.toMatch(/pgquorum_conflicts_found_total\{[^}]*collection="docs"/);
  }, 180_000);
});
