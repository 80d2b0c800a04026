/**
 * The strategy crdt from end to end: clients on all masters count, tag and write rows at once, by HTTP and SQL, while replicators come and go, through both
 * change logs. In the end counters are the sums of what was acknowledged, and all masters hold the same.
 */
import { describe, expect, test } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { createLogger } from '#core/observability/logger.process.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { changeLogs } from '#core/testing/change-logs.os.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor, startGateway } from './gateway-fixture.ts';

const logs = await changeLogs();
const all = [0, 1, 2];
const keys = Array.from({ length: 6 }, (_, at) => `k${at}`);
const roundsOfAClient = 12;

interface Sums {
  views: number;
  stock: number;
}

describe.each(logs)('through %s', (log) => {
  test('what clients on all masters do to the fields adds up, whatever else is written', async () => {
    const brokers = log === 'kafka' ? (await sharedKafka()).brokers : null;
    const fresh = await freshNodes({ count: 3 });
    const env = {
      PGQUORUM_HEARTBEAT_INTERVAL_MS: '100',
      ...(brokers === null
        ? {}
        : { PGQUORUM_KAFKA_BROKERS: brokers.join(','), PGQUORUM_KAFKA_PARTITIONS: '2' }),
    };
    await using gateway = await startGateway({
      nodes: fresh.nodes,
      cluster: fresh.cluster,
      env,
      below: fresh,
    });
    const logger = createLogger({ app: 'test', level: 'silent' });
    const replicate = () => startReplicator(settingsFor(fresh.nodes, fresh.cluster, env), logger);
    let replicator: INestApplicationContext = await replicate();
    try {
      await gateway.send('PUT', '/v1/collections/docs', {
        body: {
          dimension: 3,
          conflicts: {
            strategy: 'crdt',
            crdt: { views: 'g-counter', stock: 'pn-counter', tags: 'or-set', by: 'lww-register' },
          },
        },
      });
      await gateway.send('POST', '/v1/collections/docs/vectors', {
        body: { vectors: keys.map((id) => ({ id, embedding: [1, 2, 3], metadata: { n: 0 } })) },
      });
      await eventually('the rows are everywhere', async () => {
        const counts = await Promise.all(
          all.map((node) => gateway.sql<{ rows: number }>(node, 'select count(*)::int as rows from docs')),
        );
        return counts.every(([row]) => row!.rows === keys.length);
      });
      const sums = new Map<string, Sums>(keys.map((key) => [key, { views: 0, stock: 0 }]));
      const bySql = async (node: number): Promise<void> => {
        for (let at = 0; at < roundsOfAClient; at += 1) {
          const key = keys[(at + node) % keys.length]!;
          await gateway.sql(
            node,
            `select pgquorum.counter_add('docs', $1, 'views', 1), pgquorum.counter_add('docs', $1, 'stock', $2)`,
            [key, at % 3 === 0 ? -2 : 3],
          );
          const sum = sums.get(key)!;
          sum.views += 1;
          sum.stock += at % 3 === 0 ? -2 : 3;
          await gateway.sql(node, `select pgquorum.set_add('docs', $1, 'tags', $2)`, [key, `sql${node}`]);
          if (at % 4 === 0)
            await gateway.sql(
              node,
              `update docs set metadata = jsonb_build_object('n', $2::int) where id = $1`,
              [key, at],
            );
        }
      };
      const byHttp = async (client: number): Promise<void> => {
        for (let at = 0; at < roundsOfAClient; at += 1) {
          const key = keys[(at * 5 + client) % keys.length]!;
          const headers = { 'idempotency-key': `client ${client} at ${at}` };
          const body = {
            crdt: {
              views: { increment: 2 },
              by: { set: `client ${client}` },
              tags: { [at % 2 === 0 ? 'add' : 'remove']: 'http' },
            },
          };
          // Every request comes twice: it counts once.
          for (const attempt of [1, 2]) {
            const answer = await gateway.send('PATCH', `/v1/collections/docs/vectors/${key}`, {
              body,
              headers,
            });
            expect([attempt, answer.status]).toEqual([attempt, 200]);
          }
          sums.get(key)!.views += 2;
        }
      };
      const restarts = async (): Promise<void> => {
        for (const _ of [1, 2]) {
          await replicator.close();
          replicator = await replicate();
        }
      };
      await Promise.all([...all.map(bySql), byHttp(0), byHttp(1), restarts()]);
      const stateOf = async (node: number) => ({
        rows: await gateway.sql(node, 'select id, embedding::text, metadata from docs order by id'),
        fields: await gateway.sql(
          node,
          `select id, pgquorum.crdt_get('docs', id) as fields from docs order by id`,
        ),
        versions: await gateway.sql(
          node,
          'select id, hlc, origin, counter, clock, coalesce(seen, clock) as seen, crdt from pgquorum.version_docs order by id',
        ),
        open: await gateway.sql(node, `select id from pgquorum.conflict where state = 'open' order by id`),
      });
      await eventually(
        'all masters hold the same',
        async () => {
          const [first, ...others] = (await Promise.all(all.map(stateOf))).map((state) =>
            JSON.stringify(state),
          );
          return others.every((other) => other === first);
        },
        { withinMs: 60_000 },
      );
      for (const [id, { views, stock }] of sums) {
        const { body } = await gateway.send('GET', `/v1/collections/docs/vectors/${id}`);
        const { crdt } = body as { crdt: { views: number; stock: number; tags: string[] } };
        expect([id, crdt.views, crdt.stock]).toEqual([id, views, stock]);
        expect(crdt.tags).toEqual(expect.arrayContaining(['sql0', 'sql1', 'sql2']));
      }
    } finally {
      await replicator.close();
    }
  }, 180_000);
});
