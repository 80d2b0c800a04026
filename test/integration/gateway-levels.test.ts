/** Writes at QUORUM and ALL. No replicator runs: what the other masters have, the gateway has brought there. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundOn, type TestCluster } from '#core/testing/cluster.pg.ts';
import { confirming } from './identity/confirming.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';

interface Version {
  readonly text: string;
}
interface Result {
  readonly id: string;
  readonly version: Version;
  readonly coordinator: string;
  readonly acks: string[];
  readonly reached?: string;
  readonly error?: { code: string; receipt?: Receipt };
}
interface Receipt {
  readonly id: string;
  readonly version: Version;
  readonly acks: string[];
  readonly required: number;
  readonly stands: boolean;
  readonly retrySafe: boolean;
}
interface WriteBody {
  readonly results: Result[];
  readonly consistency: string;
  readonly code?: string;
  readonly receipt?: Receipt;
}

const names = ['n1', 'n2', 'n3'];
let masters: Masters;
let cluster: TestCluster;
let gateway: TestGateway;

beforeAll(async () => {
  masters = await startMasters();
  cluster = await foundOn(masters.nodes, { cluster: 'levels', collections: [] });
  gateway = await startGateway({
    nodes: masters.nodes,
    cluster: 'levels',
    env: { PGQUORUM_CONSISTENCY_LEVEL: 'quorum' },
  });
  for (const [name, extra] of [
    ['docs', {}],
    ['spread', { replicationFactor: 2, shards: 8 }],
    ['every', { consistency: 'all' }],
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
  await masters?.[Symbol.asyncDispose]();
});

async function write(
  path: string,
  body: unknown,
  { method = 'POST', key }: { method?: string; key?: string } = {},
): Promise<{ status: number; body: WriteBody & Result }> {
  const answer = await gateway.send(method, `/v1/collections/${path}`, {
    body,
    headers: key === undefined ? {} : { 'idempotency-key': key },
  });
  return { status: answer.status, body: answer.body as WriteBody & Result };
}

const vectors = (...ids: string[]) => ({
  vectors: ids.map((id) => ({ id, embedding: [1, 2, 3], metadata: { of: id } })),
});

/** The version of a key on each master that has one. */
async function versions(collection: string, id: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [place, name] of names.entries()) {
    const [row] = await cluster.query<{ text: string }>(
      place,
      `select v.origin || '.' || v.counter || case when v.deleted then ' deleted' else '' end || case when v.deleted = exists (select from public.${collection} t where t.id = v.id) then ' wrong' else '' end as text from pgquorum.version_${collection} v where v.id = $1`,
      [id],
    );
    if (row !== undefined) found[name] = row.text;
  }
  return found;
}

/** Keeps a row locked on these masters, so that nothing of another transaction can be applied to it. */
async function locked<T>(places: readonly number[], id: string, work: () => Promise<T>): Promise<T> {
  const holders = await Promise.all(
    places.map(async (place) => {
      const client = await cluster.client(place);
      await client.query('begin');
      await client.query('select from docs where id = $1 for update', [id]);
      return client;
    }),
  );
  try {
    return await work();
  } finally {
    await Promise.all(holders.map((client: pg.Client) => client.query('rollback')));
  }
}

test('a write that names no level is at QUORUM: two of three masters have it when it is acknowledged', async () => {
  const { status, body } = await write('docs/vectors', vectors('a', 'b'));
  expect(status).toBe(200);
  expect(body.consistency).toBe('quorum');
  for (const result of body.results) {
    expect(result.acks.length).toBeGreaterThanOrEqual(2);
    expect(result.acks).toContain(result.coordinator);
    const held = await versions('docs', result.id);
    for (const name of result.acks) expect(held[name]).toBe(result.version.text);
  }
});

test('at ALL every master has it, at ONE its coordinator alone', async () => {
  const all = await write('docs/vectors?consistency=all', vectors('c'));
  expect(all).toMatchObject({ status: 200, body: { consistency: 'all' } });
  const [result] = all.body.results;
  expect(result!.acks.toSorted()).toEqual(names);
  expect(await versions('docs', 'c')).toEqual(
    Object.fromEntries(names.map((name) => [name, result!.version.text])),
  );
  const one = await write('docs/vectors?consistency=one', vectors('d'));
  expect(one.body).toMatchObject({
    consistency: 'one',
    results: [{ acks: [one.body.results[0]!.coordinator] }],
  });
  expect(Object.keys(await versions('docs', 'd'))).toEqual(one.body.results[0]!.acks);
});

test('a collection may have a level of its own, which a request overrides', async () => {
  expect((await write('every/vectors', vectors('a'))).body.consistency).toBe('all');
  expect((await write('every/vectors?consistency=one', vectors('a'))).body.consistency).toBe('one');
  const changed = await gateway.send('PATCH', '/v1/collections/every', { body: { consistency: 'one' } });
  expect(changed).toMatchObject({ status: 200, body: { definition: { consistency: 'one' } } });
  await eventually(
    'the level of the collection is used',
    async () => (await write('every/vectors', vectors('b'))).body.consistency === 'one',
  );
});

test('patches and deletes reach the others too', async () => {
  await write('docs/vectors?consistency=all', vectors('e'));
  const patched = await write(
    'docs/vectors/e?consistency=all',
    { metadata: { more: 1 } },
    { method: 'PATCH' },
  );
  expect(patched).toMatchObject({ status: 200, body: { consistency: 'all' } });
  expect(patched.body.acks.toSorted()).toEqual(names);
  expect(new Set(Object.values(await versions('docs', 'e')))).toEqual(new Set([patched.body.version.text]));
  for (const place of names.keys())
    expect(await cluster.query(place, `select metadata from docs where id = 'e'`)).toEqual([
      { metadata: { of: 'e', more: 1 } },
    ]);
  const removed = await write('docs/vectors/e?consistency=all', undefined, { method: 'DELETE' });
  expect(removed).toMatchObject({ status: 200, body: { consistency: 'all' } });
  expect(new Set(Object.values(await versions('docs', 'e')))).toEqual(
    new Set([`${removed.body.version.text} deleted`]),
  );
});

test('too few in time: a receipt, and the same request again is safe', async () => {
  await write('docs/vectors?consistency=all', vectors('f'));
  const home = (await write('docs/vectors?consistency=one', vectors('f'))).body.results[0]!.coordinator;
  const others = [0, 1, 2].filter((place) => names[place] !== home);
  const key = 'again';
  const failed = await locked(others, 'f', () => write('docs/vectors?timeoutMs=700', vectors('f'), { key }));
  expect(failed).toMatchObject({
    status: 504,
    body: {
      code: 'consistency_not_met',
      receipt: { id: 'f', acks: [home], required: 2, stands: true, retrySafe: true },
    },
  });
  const { version } = failed.body.receipt!;
  expect((await versions('docs', 'f'))[home]).toBe(version.text);
  const degraded = await locked(others, 'f', () =>
    write('docs/vectors?timeoutMs=700&onTimeout=degrade', vectors('f'), { key }),
  );
  expect(degraded).toMatchObject({
    status: 200,
    body: {
      consistency: 'one',
      results: [{ reached: 'one', acks: [home], version: { text: version.text } }],
    },
  });
  const again = await write('docs/vectors', vectors('f'), { key });
  expect(again).toMatchObject({
    status: 200,
    body: { consistency: 'quorum', results: [{ version: { text: version.text } }] },
  });
  expect(again.body.results[0]!.acks.length).toBeGreaterThanOrEqual(2);
  const held = await versions('docs', 'f');
  for (const name of again.body.results[0]!.acks) expect(held[name]).toBe(version.text);
}, 30_000);

test('a batch says of each item who has it', async () => {
  await write('docs/vectors?consistency=all', vectors('g', 'h'));
  const home = (await write('docs/vectors?consistency=one', vectors('g'))).body.results[0]!.coordinator;
  const others = [0, 1, 2].filter((place) => names[place] !== home);
  const { status, body } = await locked(others, 'g', () =>
    write('docs/vectors?timeoutMs=1500', vectors('g', 'h')),
  );
  expect(status).toBe(200);
  const [g, h] = body.results;
  expect(g).toMatchObject({
    id: 'g',
    error: { code: 'consistency_not_met', receipt: { acks: [home], required: 2 } },
  });
  expect(h!.acks.length).toBeGreaterThanOrEqual(2);
}, 30_000);

test('what another master wrote meanwhile is not lost to it: it is a conflict there', async () => {
  const id = 'torn';
  const { coordinator } = (await write('docs/vectors?consistency=all', vectors(id))).body.results[0]!;
  const other = [0, 1, 2].find((place) => names[place] !== coordinator)!;
  await cluster.query(other, `update docs set metadata = '{"by": "hand"}' where id = $1`, [id]);
  expect(
    (await write(`docs/vectors/${id}?consistency=all`, { metadata: { x: 1 } }, { method: 'PATCH' })).status,
  ).toBe(200);
  const records = await cluster.query(
    other,
    `select c.state, c.loser_row ->> 'metadata' as lost from pgquorum.conflict c where c.key = $1`,
    [id],
  );
  expect(records).toEqual([{ state: 'open', lost: '{"by": "hand"}' }]);
});

test('with shards on two of three masters the level is counted among those two', async () => {
  const { status, body } = await write(
    'spread/vectors?consistency=all',
    vectors(...Array.from({ length: 12 }, (_, at) => `k${at}`)),
  );
  expect(status).toBe(200);
  for (const result of body.results) {
    expect(result.acks).toHaveLength(2);
    const held = await versions('spread', result.id);
    expect(Object.keys(held).toSorted()).toEqual(result.acks.toSorted());
    expect(new Set(Object.values(held))).toEqual(new Set([result.version.text]));
  }
});

test('a master that knows of other members does not count', async () => {
  const strange = `insert into pgquorum.member (number, name, zone) values (900, 'stranger', 'z')`;
  for (const place of [1, 2]) await cluster.query(place, strange);
  try {
    const { status, body } = await write('docs/vectors?timeoutMs=1500', vectors('i'));
    expect(status).not.toBe(200);
    expect(['consistency_not_met', 'stale_shard_map', 'timeout']).toContain(body.code);
  } finally {
    for (const place of [1, 2]) await cluster.query(place, 'delete from pgquorum.member where number = 900');
  }
  expect((await write('docs/vectors', vectors('i'))).status).toBe(200);
}, 30_000);

test('with a master down QUORUM goes on and ALL is refused before anything is written', async () => {
  await write('docs/vectors?consistency=all', vectors('j'));
  await masters.nodes[2]!.kill9();
  await eventually(
    'the loss is noticed',
    async () => (await write('docs/vectors?consistency=all', vectors('j'))).status === 503,
  );
  const refused = await write('docs/vectors?consistency=all', vectors('never'));
  expect(refused).toMatchObject({ status: 503, body: { code: 'replicas_unavailable' } });
  for (const place of [0, 1])
    expect(await cluster.query(place, `select from docs where id = 'never'`)).toEqual([]);
  const { status, body } = await write('docs/vectors', vectors('j', 'k', 'l'));
  expect(status).toBe(200);
  for (const result of body.results) expect(result.acks.toSorted()).toEqual(['n1', 'n2']);
  await masters.nodes[1]!.kill9();
  await eventually(
    'the second loss is noticed',
    async () => (await write('docs/vectors', vectors('m'))).status === 503,
  );
  expect((await write('docs/vectors?consistency=one', vectors('m'))).status).toBe(200);
  for (const place of [1, 2]) await masters.nodes[place]!.start();
  const others = (name: string) => cluster.nodes.filter((node) => node.name !== name);
  await using stack = new AsyncDisposableStack();
  for (const node of cluster.nodes.slice(1)) stack.use(confirming(node, others(node.name)));
  await eventually(
    'they are used again',
    async () => (await write('docs/vectors?consistency=all&timeoutMs=2000', vectors('m'))).status === 200,
  );
}, 90_000);
