/** Shards move between masters that are written all the time, through the gateway and by SQL, also where they are not held. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createLogger } from '#core/observability/logger.process.ts';
import { shardOf } from '#core/placement/partitioning.ts';
import { changeEntry, newestEntry } from '#core/shards/change.pg.ts';
import type { ShardEntry } from '#core/shards/entry.ts';
import { adoptEntries } from '#core/shards/map.pg.ts';
import type { MoveArguments } from '#core/shards/move-request.ts';
import { cancelMove, moveShard, type MovePhase } from '#core/shards/move.pg.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import type { ShardNumber } from '#core/versioning/version.ts';
import { shardedCluster, type ShardedCluster } from './shards/cluster.ts';

let cluster: ShardedCluster;
beforeAll(async () => {
  cluster = await shardedCluster();
}, 120_000);
afterAll(async () => cluster?.[Symbol.asyncDispose]());

const silent = createLogger({ app: 'test', level: 'warn', write: () => undefined });

interface Moved {
  readonly phases: MovePhase[];
}

async function move(
  args: MoveArguments,
  options: { readonly signal?: AbortSignal; readonly onPhase?: (phase: MovePhase) => void } = {},
): Promise<Moved> {
  const phases: MovePhase[] = [];
  await moveShard({
    cluster: cluster.cluster,
    nodes: cluster.nodes,
    move: args,
    proposer: cluster.nodes[0]!.number,
    logger: silent,
    signal: options.signal ?? new AbortController().signal,
    copied: null,
    onPhase: async (phase) => {
      if (phases.at(-1) !== phase) phases.push(phase);
      options.onPhase?.(phase);
    },
  });
  return { phases };
}

const elsewhere = (entry: ShardEntry): string =>
  cluster.nodes.find(({ name }) => !entry.replicas.includes(name))!.name;

test('a write by SQL where the shard is not held reaches the replicas, and then is theirs alone', async () => {
  await cluster.create('guests');
  for (const [place, client] of cluster.clients.entries())
    for (let at = 0; at < 10; at += 1)
      await client.query(`insert into guests values ($1, '[1,2,3]')`, [`n${place}-${at}`]);
  await cluster.clients[0]!.query(`delete from guests where id = 'n0-0'`);
  await cluster.settled('guests');
  const places = await cluster.places('guests');
  expect([...places.values()].filter(({ rows }) => rows.length === 2).length).toBeGreaterThanOrEqual(39);
}, 120_000);

test('nothing that was acknowledged is lost while shards move, and each row ends on its replicas alone', async () => {
  await cluster.create('busy', { shards: 2 });
  const { gateway, clients } = cluster;
  const acknowledged = new Map<string, number>();
  const stop = new AbortController();
  const throughGateway = async (): Promise<void> => {
    for (let at = 0; !stop.signal.aborted; at += 1) {
      const ids = Array.from({ length: 5 }, (_, one) => `g${(at * 5 + one) % 100}`);
      const vectors = ids.map((id) => ({ id, embedding: [at + 1, 1, 1], metadata: { at } }));
      const { status, body } = await gateway.send('POST', '/v1/collections/busy/vectors?consistency=one', {
        body: { vectors },
      });
      // On a machine that is slow enough the time for a request passes, or a node does not answer a probe: it is refused, and nothing is acknowledged.
      if (status === 503 || status === 504) continue;
      expect({ status, body }).toMatchObject({ status: 200 });
      for (const result of (body as { results: { id: string; error?: unknown }[] }).results) {
        expect(result.error).toBeUndefined();
        acknowledged.set(result.id, at);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const bySql = async (place: number): Promise<void> => {
    for (let at = 0; !stop.signal.aborted; at += 1) {
      const id = `s${place}-${at % 40}`;
      await clients[place]!.query(
        `insert into busy values ($1, '[1,2,3]', $2) on conflict (id) do update set metadata = excluded.metadata`,
        [id, JSON.stringify({ at })],
      );
      acknowledged.set(id, at);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const searching = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      const { status, body } = await gateway.send('POST', '/v1/collections/busy/search', {
        body: { embedding: [1, 1, 1], k: 500 },
      });
      if (status === 503 || status === 504) continue;
      expect({ status, body }).toMatchObject({ status: 200, body: { shardsSearched: 2, partial: false } });
      const ids = (body as { matches: { id: string }[] }).matches.map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const writing = Promise.all([throughGateway(), ...clients.map((_, place) => bySql(place)), searching()]);
  writing.catch(() => stop.abort());
  try {
    await eventually('there is something to move', () => acknowledged.size > 100);
    const map = await cluster.map('busy');
    const moves = map.map((entry) =>
      move({
        collection: 'busy',
        shard: entry.shard,
        from: entry.replicas[entry.shard]!,
        to: elsewhere(entry),
      }),
    );
    for (const { phases } of await Promise.all(moves))
      expect(phases).toEqual(['planned', 'copying', 'verifying', 'switching', 'cleaning', 'done']);
  } finally {
    stop.abort();
    await writing;
  }
  await cluster.settled('busy');
  // All that is left is what the last of each key's writes said, or one that was concurrent with it.
  const map = await cluster.map('busy');
  const places = await cluster.places('busy');
  for (const id of acknowledged.keys()) {
    expect([id, places.get(id)?.rows.length]).toEqual([id, 2]);
    const { replicas } = map[shardOf(id, { ...testDefinition, shards: 2 })]!;
    const states = await Promise.all(
      replicas.map(async (name) => {
        const at = cluster.nodes.findIndex((node) => node.name === name);
        const { rows } = await clients[at]!.query<{ state: string }>(
          `select jsonb_build_object('row', t.metadata, 'hlc', v.hlc, 'dot', v.origin || '.' || v.counter)::text as state from busy t join pgquorum.version_busy v using (id) where id = $1`,
          [id],
        );
        return rows[0]!.state;
      }),
    );
    expect(states[0]).toBe(states[1]);
    // The gateway writes a key on one node at a time: its last write dominates.
    if (id.startsWith('g'))
      expect((JSON.parse(states[0]!) as { row: { at: number } }).row.at).toBeGreaterThanOrEqual(
        acknowledged.get(id)!,
      );
  }
}, 240_000);

// By SIGKILL at each step: shard-failpoints.test.ts.
const cutAt: readonly MovePhase[] =
  process.env['PGQUORUM_TEST_LONG'] === '1'
    ? ['planned', 'copying', 'verifying', 'switching', 'cleaning']
    : ['switching'];

test.each(cutAt)(
  'a move that ends while it is %s goes on from there',
  async (at) => {
    const name = `again_${at}`;
    await cluster.create(name, { shards: 1 });
    await cluster.clients[0]!.query(
      `insert into ${name} select 'k' || i, '[1,2,3]' from generate_series(1, 50) i`,
    );
    await cluster.settled(name);
    const [entry] = await cluster.map(name);
    const args = { collection: name, shard: 0, from: entry!.replicas[0]!, to: elsewhere(entry!) };
    const killed = new Error('killed');
    await expect(
      move(args, {
        onPhase: (phase) => {
          if (phase === at) throw killed;
        },
      }),
    ).rejects.toBe(killed);
    await cluster.clients[1]!.query(`update ${name} set embedding = '[3,2,1]'`);
    await move(args);
    await cluster.settled(name);
    const places = [...(await cluster.places(name)).values()];
    expect(places).toHaveLength(50);
    for (const { rows } of places) expect(rows.toSorted()).toEqual([args.to, entry!.replicas[1]!].toSorted());
  },
  120_000,
);

test('a move that is cancelled leaves the map as it was, and nothing on the node that it was for', async () => {
  await cluster.create('cancelled', { shards: 1 });
  await cluster.clients[0]!.query(
    `insert into cancelled select 'k' || i, '[1,2,3]' from generate_series(1, 50) i`,
  );
  await cluster.settled('cancelled');
  const [entry] = await cluster.map('cancelled');
  const args = { collection: 'cancelled', shard: 0, from: entry!.replicas[0]!, to: elsewhere(entry!) };
  const killed = new Error('killed');
  const ending = move(args, {
    onPhase: (phase) => {
      if (phase === 'verifying') throw killed;
    },
  });
  await expect(ending).rejects.toBe(killed);
  await cancelMove({ nodes: cluster.nodes, move: args, proposer: cluster.nodes[0]!.number });
  await cluster.settled('cancelled');
  const [after] = await cluster.map('cancelled');
  expect(after).toMatchObject({ replicas: entry!.replicas, next: null });
  expect(after!.epoch).toBeGreaterThan(entry!.epoch);
}, 120_000);

test('a gateway makes such collections and moves their shards, and refuses what makes no sense', async () => {
  const { gateway, clients } = cluster;
  const body = { dimension: 3, shards: 2, replicationFactor: 2, index: { type: 'none' } };
  expect(await gateway.send('PUT', '/v1/collections/asked', { body })).toMatchObject({
    status: 201,
    body: { definition: { replicationFactor: 2 } },
  });
  expect((await gateway.send('PUT', '/v1/collections/asked', { body })).status).toBe(200);
  await clients[0]!.query(`insert into asked values ('a', '[1,2,3]'), ('b', '[1,2,3]')`);
  const [entry] = await cluster.map('asked');
  expect(entry!.replicas).toHaveLength(2);
  const args = { from: entry!.replicas[0]!, to: elsewhere(entry!) };
  const move = (path: string, given: object) =>
    gateway.send('POST', `/v1/cluster/shards/${path}/move`, { body: given });
  const asked = await move('asked/0', args);
  expect(asked.status).toBe(202);
  const finished = async (id: string) =>
    eventually(
      'the job has ended',
      async () => {
        const job = (await gateway.send('GET', `/v1/jobs/${id}`)).body as { state: string };
        return ['done', 'failed'].includes(job.state) ? job : null;
      },
      { withinMs: 120_000, everyMs: 100 },
    );
  expect(await finished((asked.body as { job: { id: string } }).job.id)).toMatchObject({
    state: 'done',
    result: { collection: 'asked', shard: 0, ...args },
  });
  await cluster.settled('asked');
  expect((await gateway.send('GET', '/v1/cluster/shards/asked')).body).toMatchObject({
    items: [{ replicas: [args.to, entry!.replicas[1]], status: 'active' }, { status: 'active' }],
  });
  const again = await move('asked/0', args);
  expect(await finished((again.body as { job: { id: string } }).job.id)).toMatchObject({ state: 'done' });
  const wrong = await move('asked/0', { from: args.to, to: entry!.replicas[1] });
  expect(await finished((wrong.body as { job: { id: string } }).job.id)).toMatchObject({
    state: 'failed',
    error: { code: 'invalid_request' },
  });
  expect(await move('asked/2', args)).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
  expect(await move('asked/0', { ...args, to: 'n9' })).toMatchObject({
    status: 404,
    body: { code: 'node_not_found' },
  });
  await gateway.send('PUT', '/v1/collections/whole', { body: { dimension: 3 } });
  expect(await move('whole/0', args)).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
  expect(
    await gateway.send('PATCH', '/v1/collections/asked', {
      body: { conflicts: { strategy: 'crdt', crdt: { seen: 'g-counter' } } },
    }),
  ).toMatchObject({ status: 400, body: { code: 'not_supported' } });
}, 240_000);

test('a node that is said to hold what it never was filled with is filled before it counts', async () => {
  await cluster.create('filled', { shards: 1 });
  await cluster.clients[0]!.query(
    `insert into filled select 'k' || i, '[1,2,3]' from generate_series(1, 50) i`,
  );
  await cluster.settled('filled');
  const [entry] = await cluster.map('filled');
  const place = { collection: 'filled', shard: 0 as ShardNumber };
  const to = elsewhere(entry!);
  // As after a backup of the node was restored: the others' map names it, its own did not.
  const now = await newestEntry(cluster.nodes, place);
  await changeEntry({
    nodes: cluster.nodes,
    place,
    from: now,
    to: { replicas: [...now.replicas, to], next: null },
    proposer: cluster.nodes[0]!.number,
    needed: [],
  });
  const at = cluster.nodes.findIndex(({ name }) => name === to);
  await eventually('the node is a replica', async () => {
    const { rows } = await cluster.clients[at]!.query<{ role: string; keys: number }>(
      `select role, (select count(*)::int from filled) as keys from pgquorum.shard_role where collection = 'filled'`,
    );
    if (rows[0]!.role === 'replica') expect(rows[0]!.keys).toBe(50);
    return rows[0]!.role === 'replica';
  });
});

test('of two changes of one entry one is done, and a node that was left out takes the newest', async () => {
  await cluster.create('raced', { shards: 1 });
  const place = { collection: 'raced', shard: 0 as ShardNumber };
  const from = await newestEntry(cluster.nodes, place);
  const change = (proposer: number) =>
    changeEntry({
      nodes: cluster.nodes,
      place,
      from,
      to: { replicas: from.replicas, next: null },
      proposer: cluster.nodes[proposer]!.number,
      needed: [],
    });
  const done = await Promise.allSettled([change(0), change(1)]);
  expect(done.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  expect(done.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'stale_shard_map' },
  });
  const newest = await newestEntry(cluster.nodes, place);
  // One node alone has an entry that is newer still: a coordinator died between two commits.
  const alone = { ...newest, epoch: newest.epoch + 65_536 };
  await adoptEntries(cluster.clients[2]!, cluster.nodes[2]!.name, [alone]);
  await eventually('all nodes have it', async () => {
    const epochs = await Promise.all(
      cluster.clients.map(
        async (client) =>
          (
            await client.query<{ epoch: string }>(
              `select epoch::text as epoch from pgquorum.shard_map where collection = 'raced'`,
            )
          ).rows[0]!.epoch,
      ),
    );
    return epochs.every((epoch) => Number(epoch) === alone.epoch);
  });
});
