/**
 * With one writer for each key there is never a conflict, whatever dies and is told again: replicators are killed and started all the while, and every
 * request to the gateway is sent twice.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import pg from 'pg';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Prng } from '../simulation/prng.ts';
import { AppProcess } from './convergence/processes.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';

const seed = Number(process.env['PGQUORUM_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const writingMs = 6000;
/** So many by each, however long that takes on a busy machine. */
const writesMin = 20;
const killsMin = 2;
const keys = 12;
const all = [0, 1, 2];

/** By SQL at one master: upserts, updates and deletes of a few keys over and over. */
async function writeBySql(url: string, random: () => number, until: number): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  let writes = 0;
  try {
    while (performance.now() < until || writes < writesMin) {
      const key = `sql${Math.floor(random() * keys)}`;
      if (random() < 0.2) await client.query('delete from docs where id = $1', [key]);
      else
        await client.query(
          `insert into docs values ($1, '[1,2,3]', jsonb_build_object('w', $2::int)) on conflict (id) do update set metadata = excluded.metadata`,
          [key, writes],
        );
      writes += 1;
      await sleep(2);
    }
  } finally {
    await client.end();
  }
}

/** Through the gateway, each request twice under one key, at another coordinator the second time if there is one nearer. */
async function writeByHttp(gateway: TestGateway, random: () => number, until: number): Promise<void> {
  let writes = 0;
  while (performance.now() < until || writes < writesMin) {
    const id = `http${Math.floor(random() * keys)}`;
    const send = () =>
      gateway.send('POST', '/v1/collections/docs/vectors', {
        body: { vectors: [{ id, embedding: [4, 5, 6], metadata: { w: writes } }] },
        headers: { 'idempotency-key': `${id}-${writes}` },
      });
    const first = await send();
    expect(first.status).toBe(200);
    expect((await send()).body).toEqual(first.body);
    writes += 1;
  }
}

async function killAndStart(
  replicators: readonly AppProcess[],
  random: () => number,
  until: number,
): Promise<void> {
  let kills = 0;
  while (performance.now() < until || kills < killsMin) {
    await sleep(300 + random() * 700);
    const one = replicators[Math.floor(random() * replicators.length)]!;
    await one.kill('SIGKILL');
    one.start();
    kills += 1;
  }
}

test('one writer for each key never makes a conflict, though replicators are killed and requests repeated', async () => {
  process.stderr.write(`single writer: PGQUORUM_TEST_SEED=${seed}\n`);
  const prng = new Prng(seed);
  const random = () => prng.below(1_000_000) / 1_000_000;
  await using fresh = await freshNodes({ count: 3 });
  const gateway = await startGateway({ nodes: fresh.nodes, cluster: fresh.cluster });
  const folder = await mkdtemp(join(tmpdir(), 'pgquorum-single-writer-'));
  const settings = settingsFor(fresh.nodes, fresh.cluster);
  const replicators = fresh.nodes.map(
    ({ name }) =>
      new AppProcess(
        'replicator',
        {
          PGQUORUM_NODES: JSON.stringify(settings.nodes),
          PGQUORUM_CLUSTER: fresh.cluster,
          PGQUORUM_REPLICATOR_NODES: name,
          PGQUORUM_HEARTBEAT_INTERVAL_MS: '100',
        },
        join(folder, `${name}.log`),
      ),
  );
  try {
    await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
    for (const one of replicators) one.start();
    const until = performance.now() + writingMs;
    await Promise.all([
      writeBySql(fresh.nodes[0]!.url, random, until),
      writeByHttp(gateway, random, until),
      killAndStart(replicators, random, until),
    ]);
    const state = async (node: number) =>
      JSON.stringify([
        await gateway.sql(node, 'select id, embedding::text, metadata from docs order by id'),
        await gateway.sql(
          node,
          'select id, hlc, origin, counter, clock, seen, deleted from pgquorum.version_docs order by id',
        ),
      ]);
    await eventually(
      'all masters hold the same',
      async () => new Set(await Promise.all(all.map(state))).size === 1,
      { withinMs: 60_000, everyMs: 200 },
    );
    for (const node of all) {
      expect(await gateway.sql(node, 'select * from pgquorum.conflict')).toEqual([]);
      expect(await gateway.sql(node, `select * from pgquorum.event where type = 'conflict'`)).toEqual([]);
    }
  } finally {
    await Promise.all(replicators.map((one) => one.kill('SIGKILL')));
    await gateway[Symbol.asyncDispose]();
  }
  await rm(folder, { recursive: true });
}, 180_000);
