/** QUORUM and ALL where something is in the way: what is answered is true, in time, and says what was done. No replicator runs. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { readCollection } from '#core/collections/catalog.pg.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { finishRenumbering, startRenumbering } from '#core/topology/renumber.pg.ts';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { WholeStates } from '#core/writes/whole-states.pg.ts';
import { startGateway, type Answer, type TestGateway } from './gateway-fixture.ts';

let cluster: TestCluster;
let gateway: TestGateway;

beforeAll(async () => {
  cluster = await foundTestCluster({ count: 3 });
  gateway = await startGateway({
    nodes: cluster.masters,
    cluster: cluster.cluster,
    env: { PGQUORUM_ZONE: cluster.masters[0]!.zone, PGQUORUM_CONSISTENCY_LEVEL: 'quorum' },
  });
  for (const [name, extra] of [
    ['docs', {}],
    ['spread', { replicationFactor: 2, shards: 8 }],
    ['counted', { conflicts: { strategy: 'crdt', crdt: { n: 'pn-counter' } } }],
  ] as const)
    expect(
      (
        await gateway.send('PUT', `/v1/collections/${name}`, {
          body: { dimension: 3, index: { type: 'none' }, ...extra },
        })
      ).status,
    ).toBe(201);
}, 120_000);

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

interface Result {
  readonly id: string;
  readonly coordinator: string;
  readonly acks?: string[];
  readonly error?: { code: string };
}

const vectors = (...ids: string[]) => ({
  vectors: ids.map((id) => ({ id, embedding: [1, 2, 3], metadata: { of: id } })),
});

const put = (ids: readonly string[], query = '', collection = 'docs'): Promise<Answer> =>
  gateway.send('POST', `/v1/collections/${collection}/vectors${query}`, { body: vectors(...ids) });

const get = (id: string, query: string, collection = 'docs'): Promise<Answer> =>
  gateway.send('GET', `/v1/collections/${collection}/vectors/${id}${query}`);

const resultsOf = ({ body }: Answer): Result[] => (body as { results: Result[] }).results;

async function primaryOf(id: string, collection = 'docs'): Promise<number> {
  const { body } = await gateway.send('GET', `/v1/cluster/shards/${collection}/of/${id}`);
  return cluster.nodes.findIndex(({ name }) => name === (body as { primary: string }).primary);
}

/** Nobody can look at the tables on these masters meanwhile. */
async function shut<T>(places: readonly number[], tables: string, work: () => Promise<T>): Promise<T> {
  const holders = await Promise.all(
    places.map(async (place) => {
      const client = await cluster.client(place);
      await client.query(`begin; lock table ${tables} in access exclusive mode`);
      return client;
    }),
  );
  try {
    return await work();
  } finally {
    await Promise.all(holders.map((client) => client.query('rollback')));
  }
}

async function unconfirmed<T>(place: number, work: () => Promise<T>): Promise<T> {
  await cluster.query(place, 'update pgquorum.node set started = null');
  try {
    return await work();
  } finally {
    await cluster.query(place, 'update pgquorum.node set started = pg_postmaster_start_time()');
  }
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; answer: T }> {
  const before = performance.now();
  const answer = await work();
  return { ms: performance.now() - before, answer };
}

test('columns that come and go between two writes do not cost an acknowledgement', async () => {
  expect((await put(['ddl'], '?consistency=all')).status).toBe(200);
  for (const change of ['add column note text', 'add column more int default 7', 'drop column note']) {
    await cluster.everywhere(`alter table docs ${change}`);
    expect((await put(['ddl'], '?consistency=all')).body).toMatchObject({ consistency: 'all' });
    await cluster.query(1, `update docs set metadata = '{"n": 1}' where id = 'ddl'`);
    expect((await get('ddl', '?consistency=all')).body).toMatchObject({ metadata: { n: 1 } });
  }
});

test('keys of several columns, and of types that are no text', async () => {
  await cluster.everywhere(
    'create table pairs (n bigint, day date, embedding vector(3), note text, primary key (n, day))',
  );
  const attached = await gateway.send('POST', '/v1/collections/pairs/attach', {
    body: { table: 'public.pairs' },
  });
  expect(attached.status).toBeLessThan(300);
  await eventually(
    'it is attached',
    async () => (await gateway.send('GET', '/v1/collections/pairs')).status === 200,
  );
  const id = JSON.stringify(['9007199254740993', '2024-02-29']);
  const path = encodeURIComponent(id);
  await cluster.query(1, `insert into pairs (n, day, note) values (9007199254740993, '2024-02-29', 'x')`);
  expect(await get(path, '?consistency=all', 'pairs')).toMatchObject({ status: 200, body: { id } });
  for (const place of [0, 1, 2])
    expect(await cluster.query(place, 'select note from pairs')).toEqual([{ note: 'x' }]);
  expect(
    (await gateway.send('DELETE', `/v1/collections/pairs/vectors/${path}?consistency=all`)).body,
  ).toMatchObject({ consistency: 'all' });
  for (const place of [0, 1, 2]) expect(await cluster.query(place, 'select from pairs')).toEqual([]);
});

test('what follows an acknowledged write and is not durable yet does not go along with it', async () => {
  await using stack = new AsyncDisposableStack();
  const nodes = new Nodes(cluster.nodes, { poolMax: 2 });
  stack.defer(() => nodes.close());
  const careless = await cluster.client(0);
  await careless.query('set synchronous_commit = off');
  const { table } = (await readCollection(careless, 'counted'))!;
  const states = new WholeStates();
  for (let times = 0; times < 5; times += 1) {
    const id = `k${times}`;
    await cluster.query(0, 'insert into counted (id) values ($1)', [id]);
    const [version] = await cluster.query<{ dot: string }>(
      0,
      `select origin || '.' || counter as dot from pgquorum.version_counted where id = $1`,
      [id],
    );
    await careless.query(`select pgquorum.counter_add('counted', $1, 'n')`, [id]);
    const { rows } = await careless.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
    const found = await states.read(nodes.all[0]!, {
      table,
      keys: [[id]],
      durable: new Set([version!.dot]),
      deadline: deadlineIn(5000),
      belief: null,
    });
    expect(found.size).toBe(1);
    const flushed = await careless.query('select pg_current_wal_flush_lsn() >= $1::pg_lsn as done', [
      rows[0]!.lsn,
    ]);
    expect(flushed.rows).toEqual([{ done: true }]);
  }
});

test('of a batch, what is written is told when the map can not be had in time for the rest', async () => {
  const ids = Array.from({ length: 12 }, (_, at) => `m${at}`);
  const places = await Promise.all(ids.map((id) => primaryOf(id, 'spread')));
  expect(new Set(places).size).toBeGreaterThan(1);
  const change = (by: string) =>
    cluster.query(1, `update pgquorum.shard_role set epoch = epoch ${by} where collection = 'spread'`);
  await change('+ 1000');
  try {
    const answer = await put(ids, '?consistency=one&timeoutMs=400', 'spread');
    expect(answer.status).toBe(200);
    for (const [at, { error }] of resultsOf(answer).entries())
      if (places[at] === 1) expect(['stale_shard_map', 'timeout']).toContain(error?.code);
      else expect(error).toBeUndefined();
  } finally {
    await change('- 1000');
  }
});

test('a master that does not answer does not keep anybody who looks for the members beyond his deadline', async () => {
  const ids = ['w1', 'w2', 'w3', 'w4', 'w5', 'w6'];
  const change = (by: string) =>
    cluster.query(1, `update pgquorum.shard_role set epoch = epoch ${by} where collection = 'spread'`);
  await change('+ 1000');
  try {
    const { write, read } = await shut([2], 'pgquorum.member', async () => ({
      write: await timed(() => put(ids, '?timeoutMs=400', 'spread')),
      read: await timed(() => get('w1', '?consistency=all&timeoutMs=400', 'spread')),
    }));
    expect(write.ms).toBeLessThan(1500);
    expect(read.ms).toBeLessThan(1500);
  } finally {
    await change('- 1000');
  }
  await eventually(
    'the master is used again',
    async () => (await put(ids, '?consistency=all', 'spread')).status === 200,
  );
});

test('a delete whose reading fails does not say that there is nothing', async () => {
  const primary = await primaryOf('gone');
  const others = [0, 1, 2].filter((place) => place !== primary);
  await cluster.query(others[0]!, `insert into docs (id) values ('gone')`);
  const answer = await shut(others, 'docs, pgquorum.version_docs', () =>
    gateway.send('DELETE', '/v1/collections/docs/vectors/gone?consistency=quorum&timeoutMs=500'),
  );
  expect(answer).toMatchObject({ status: 504, body: { code: 'timeout' } });
});

test('a database that may not be the one that others remember is not counted by a read', async () => {
  expect((await get('absent', '?consistency=quorum')).status).toBe(404);
  const answer = await unconfirmed(2, () =>
    shut([1], 'docs, pgquorum.version_docs', () => get('absent', '?consistency=quorum&timeoutMs=500')),
  );
  expect([503, 504]).toContain(answer.status);
  // The others are enough.
  expect((await unconfirmed(2, () => get('absent', '?consistency=quorum'))).status).toBe(404);
});

test('a master that went back is not counted by a read until it has everything again', async () => {
  const node = cluster.nodes[2]!;
  await cluster.query(
    2,
    `insert into pgquorum.source (origin, log, state, generation) values ($1, 'wal', 'ready', 'g') on conflict (origin, log) do update set state = 'ready'`,
    [cluster.nodes[0]!.number],
  );
  const client = await cluster.client(2);
  await startRenumbering(
    client,
    { name: node.name, number: node.number, spare: node.spare, zone: node.address.zone },
    { peers: [], all: true, reason: 'a test' },
  );
  await finishRenumbering(client, node.number, AbortSignal.timeout(5000));
  expect(await cluster.query(2, 'select went_back from pgquorum.resync')).toContainEqual({ went_back: true });
  const read = () =>
    shut([1], 'docs, pgquorum.version_docs', () => get('absent', '?consistency=quorum&timeoutMs=500'));
  expect([503, 504]).toContain((await read()).status);
  await cluster.query(2, 'delete from pgquorum.resync');
  expect((await read()).status).toBe(404);
});

test('who waits until a database is found to be itself holds none of its connections', async () => {
  const ids = Array.from({ length: 400 }, (_, at) => `c${at}`);
  const place = await primaryOf('c0');
  const mine: string[] = [];
  for (const id of ids) if (mine.length < 30 && (await primaryOf(id)) === place) mine.push(id);
  expect((await put(mine, '?consistency=all')).status).toBe(200);
  await unconfirmed(place, async () => {
    const writes = mine.map((id) => put([id], '?timeoutMs=1500'));
    await eventually('they wait', async () => {
      const rows = await cluster.query(place, `select from pgquorum.version_docs where clock <> '{}'`);
      return rows.length >= mine.length;
    });
    const read = await timed(() => get(mine[0]!, '?consistency=one&timeoutMs=1000'));
    expect(read.answer.status).toBe(200);
    expect(read.ms).toBeLessThan(700);
    await Promise.all(writes);
  });
}, 20_000);

test('a read that can not bring one master up to date goes by the others', async () => {
  const ids = Array.from({ length: 20 }, (_, at) => `moved${at}`);
  const primaries = await Promise.all(ids.map((id) => primaryOf(id)));
  const id = ids[primaries.findIndex((place) => place !== 0)]!;
  await put([id], '?consistency=all');
  const [database] = await cluster.query<{ name: string }>(0, 'select current_database() as name');
  // From now on it is read, by connections that are open, and nothing new comes there.
  expect((await get('absent', '?consistency=all')).status).toBe(404);
  await cluster.asSuper(0, `alter database ${database!.name} connection limit 0`);
  try {
    await cluster.query(
      0,
      `select pg_terminate_backend(pid, 1000) from pg_stat_activity where application_name = 'pgquorum gateway fan-out' and datname = current_database()`,
    );
    const path = `/v1/collections/docs/vectors/${id}?consistency=quorum`;
    expect((await gateway.send('PATCH', path, { body: { metadata: { n: 2 } } })).status).toBe(200);
    await eventually(
      'it is asked again',
      async () => (await get('absent', '?consistency=all')).status === 404,
    );
    expect(await get(id, '?consistency=quorum&timeoutMs=3000')).toMatchObject({
      status: 200,
      body: { metadata: { n: 2 } },
    });
  } finally {
    await cluster.asSuper(0, `alter database ${database!.name} connection limit -1`);
  }
});

test('a repair that takes too long does not keep the reader', async () => {
  await put(['slow'], '?consistency=all');
  await cluster.query(1, `update docs set metadata = '{"n": 3}' where id = 'slow'`);
  await cluster.query(
    0,
    `create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(3); return new; end $$`,
  );
  await cluster.query(
    0,
    `create trigger slow before update on docs for each row when (new.id = 'slow') execute function slow()`,
  );
  await cluster.query(0, 'alter table docs enable always trigger slow');
  try {
    {
      await using other = await startGateway({ nodes: cluster.masters, cluster: cluster.cluster });
      const written = await other.send('POST', '/v1/collections/docs/vectors?consistency=all&timeoutMs=500', {
        body: vectors('slow'),
      });
      expect(written.status).toBe(504);
      const closed = await timed(() => other.gateway.close());
      expect(closed.ms).toBeLessThan(2000);
    }
    await cluster.query(1, `update docs set metadata = '{"n": 4}' where id = 'slow'`);
    const { ms, answer } = await timed(() => get('slow', '?consistency=quorum&timeoutMs=500'));
    expect(answer).toMatchObject({ status: 504, body: { code: 'timeout' } });
    expect(ms).toBeLessThan(1500);
  } finally {
    await cluster.query(0, 'drop trigger slow on docs');
  }
}, 20_000);

test('a master that this gateway has never reached is one of those that have to have a write', async () => {
  await cluster.everywhere(
    `insert into pgquorum.member (number, name, zone, url) values (900, 'far', 'far', 'postgres://127.0.0.1:1/none')`,
  );
  await eventually('it is known, and counts', async () => {
    const { status, body } = await put(['far'], '?consistency=all');
    return status === 503 && (body as { code: string }).code === 'replicas_unavailable';
  });
  const { status, body } = await put(['far'], '?consistency=quorum');
  expect({ status, acks: (body as { results: Result[] }).results[0]!.acks!.length }).toEqual({
    status: 200,
    acks: 3,
  });
});
