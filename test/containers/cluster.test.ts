/** Everything that docker-compose.yml describes, running: the project's own image, three masters, Kafka between them. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ComposeCluster, containersSkipped } from './compose-cluster.ts';

const skipped = await containersSkipped();
if (skipped !== undefined) process.stderr.write(`skipped: the cluster in containers (${skipped})\n`);

const masters = ['n1', 'n2', 'n3'];
/** Long enough for a broken connection to be noticed and a stream to be taken up again. */
const agreeMsMax = 90_000;

(skipped === undefined ? describe : describe.skip)('the services of docker-compose.yml', () => {
  let cluster: ComposeCluster;

  beforeAll(async () => {
    cluster = await ComposeCluster.start();
    await call('PUT', '/v1/collections/items', { dimension: 3 });
  }, 900_000);
  afterAll(() => cluster?.[Symbol.asyncDispose](), 120_000);

  async function call(method: string, path: string, body?: unknown): Promise<unknown> {
    const headers = { authorization: `Bearer ${cluster.apiKey}`, 'content-type': 'application/json' };
    const answer = await fetch(`${cluster.url}${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}\n${cluster.logs()}`);
    return JSON.parse(text);
  }

  const write = (id: string, embedding: number[]) =>
    call('POST', '/v1/collections/items/vectors?consistency=one', {
      vectors: [{ id, embedding, metadata: { id } }],
    });

  const nodeStatus = async (name: string) => {
    const { items } = (await call('GET', '/v1/cluster/nodes')) as { items: { id: string; status: string }[] };
    return items.find(({ id }) => id === name)?.status;
  };

  const lagMs = async (from: string, to: string) => {
    const { edges } = (await call('GET', '/v1/replication/lag')) as {
      edges: { from: string; to: string; ms: number | null }[];
    };
    return edges.find((edge) => edge.from === from && edge.to === to)?.ms;
  };

  /** What a client sees and what decides conflicts later; `applied` differs by nature. */
  const contents = (master: string) =>
    cluster.sql<{ id: string }>(
      master,
      `
      select v.id, v.rank, v.epoch, v.hlc, v.origin, v.counter, v.clock, coalesce(v.seen, v.clock) as seen, v.deleted, i.embedding::text, i.metadata
        from pgquorum.version_items v left join public.items i using (id) order by v.id`,
    );

  async function agree(ids: readonly string[]): Promise<void> {
    await soon(async () => {
      const [first = [], ...others] = await Promise.all(masters.map(contents));
      expect(first.map(({ id }) => id)).toEqual(expect.arrayContaining([...ids]));
      for (const other of others) expect(other).toEqual(first);
    });
  }

  /** The condition within the time, else its failure with the last words of every service. */
  async function soon(condition: () => Promise<void>): Promise<void> {
    const deadline = Date.now() + agreeMsMax;
    for (;;) {
      try {
        return await condition();
      } catch (cause) {
        if (Date.now() > deadline)
          throw new Error(`${(cause as Error).message}\n${cluster.logs()}`, { cause });
      }
      await delay(200);
    }
  }

  test('answer nobody without a key', async () => {
    const path = `${cluster.url}/v1/cluster/nodes`;
    expect((await fetch(path)).status).toBe(401);
    expect((await fetch(`${cluster.url}/healthz`)).status).toBe(200);
  });

  test('carry a write at the gateway to all masters', async () => {
    await write('by-gateway', [1, 2, 3]);
    await agree(['by-gateway']);
  }, 120_000);

  test.each(masters)(
    'carry a write by SQL on %s to the other masters',
    async (master) => {
      const id = `by-sql-on-${master}`;
      await cluster.execute(
        master,
        `insert into public.items (id, embedding, metadata) values ('${id}', '[4,5,6]', '{}')`,
      );
      await agree([id]);
    },
    120_000,
  );

  test('write on while a master is cut off, and agree once it is back', async () => {
    await cluster.execute(
      'n1',
      `insert into public.items (id, embedding, metadata) values ('contended', '[0,0,1]', '{}')`,
    );
    await agree(['contended']);
    await cluster.cut('n3');
    const ids: string[] = [];
    const writeOn = async () => {
      const id = `during-cut-${ids.push(`during-cut-${ids.length}`) - 1}`;
      expect(await write(id, [1, 1, 1])).toMatchObject({
        results: [{ id, coordinator: expect.stringMatching(/^n[12]$/) }],
      });
    };
    // Long enough that nobody takes it for a slow moment, and told as what it is: a node that is down and a lag that grows.
    await soon(async () => {
      await writeOn();
      expect(await nodeStatus('n3')).toBe('down');
      expect(await cluster.isHealthy('replicator-n3')).toBe(false);
      expect(await lagMs('n3', 'n1')).toBeGreaterThan(8_000);
    });
    for (let more = 0; more < 20; more++) await writeOn();
    await cluster.execute(
      'n3',
      `insert into public.items (id, embedding, metadata) values ('on-the-island', '[7,8,9]', '{}')`,
    );
    await cluster.execute('n1', `update public.items set embedding = '[1,0,0]' where id = 'contended'`);
    await cluster.execute('n3', `update public.items set embedding = '[0,1,0]' where id = 'contended'`);
    await soon(async () => {
      const seen = await cluster.sql('n2', `select embedding::text from public.items where id = 'contended'`);
      expect(seen).toEqual([{ embedding: '[1,0,0]' }]);
    });
    expect(await cluster.sql('n3', `select id from public.items where id like 'during-cut-%'`)).toEqual([]);
    await cluster.rejoin('n3');
    await agree([...ids, 'on-the-island', 'contended']);
    await soon(async () => {
      expect(await nodeStatus('n3')).toBe('alive');
      for (const name of ['gateway', ...cluster.names('replicator-')])
        expect({ name, healthy: await cluster.isHealthy(name) }).toEqual({ name, healthy: true });
    });
    const conflicts = await Promise.all(
      masters.map((master) =>
        cluster.sql(
          master,
          `select id, key, loser_origin, loser_counter from pgquorum.conflict where key = 'contended'`,
        ),
      ),
    );
    expect(conflicts[0]).toHaveLength(1);
    expect(conflicts[1]).toEqual(conflicts[0]);
    expect(conflicts[2]).toEqual(conflicts[0]);
  }, 300_000);

  test('stop in order when they are asked to, and go on where they were', async () => {
    for (const name of ['gateway', ...cluster.names('replicator-')])
      expect({ name, code: await cluster.stop(name) }).toEqual({ name, code: 0 });
    await cluster.execute('n2', `delete from public.items where id = 'by-gateway'`);
    for (const name of cluster.names('replicator-')) await cluster.startAgain(name);
    await agree(['by-gateway']);
    for (const master of masters)
      expect(await cluster.sql(master, `select id from public.items where id = 'by-gateway'`)).toEqual([]);
  }, 300_000);
});
