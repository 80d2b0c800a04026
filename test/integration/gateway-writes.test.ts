/** Writes at ONE: versions, batches, repeats. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await freshGateway();
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const vectors = '/v1/collections/docs/vectors';

interface Result {
  id: string;
  shard: number;
  version: {
    text: string;
    origin: string;
    counter: string;
    hlc: string | null;
    clock: Record<string, string> | null;
  };
  coordinator: string;
  acks: string[];
  error?: { code: string; status: number };
}
interface WriteBody {
  results: Result[];
  consistency: string;
}

const upsert = async (items: object[], headers: Record<string, string> = {}) => {
  const answer = await gateway.send('POST', vectors, { body: { vectors: items }, headers });
  return { ...answer, body: answer.body as WriteBody };
};
const nodeIndex = (name: string) => gateway.nodes.findIndex((node) => node.name === name);

test('a write names its version, and the row and version are on the node that it names', async () => {
  const { status, body } = await upsert([
    { id: 'first', embedding: [0.1, 2, -3], metadata: { a: 'ä', n: 12345678901234567890n.toString() } },
  ]);
  expect(status).toBe(200);
  expect(body.consistency).toBe('one');
  const [result] = body.results;
  expect(result).toMatchObject({
    id: 'first',
    version: { hlc: expect.stringMatching(/^\d{15,}$/), counter: expect.stringMatching(/^\d+$/) },
    acks: [result!.coordinator],
  });
  expect(result!.version.origin).toBe(result!.coordinator);
  const [row] = await gateway.sql<{
    embedding: string;
    hlc: string;
    counter: string;
    shard: number;
    request: string;
  }>(
    nodeIndex(result!.coordinator),
    `select embedding::text, v.hlc::text, v.counter::text, v.shard, v.request::text from docs join pgquorum.version_docs v using (id) where id = 'first'`,
  );
  expect(row).toMatchObject({
    embedding: '[0.1,2,-3]',
    hlc: result!.version.hlc,
    counter: result!.version.counter,
    shard: result!.shard,
    request: expect.stringMatching(/^[0-9a-f-]{36}$/),
  });
  const read = await gateway.send('GET', `${vectors}/first`);
  expect(read.body).toMatchObject({
    id: 'first',
    embedding: [0.1, 2, -3],
    metadata: { a: 'ä' },
    version: result!.version,
  });
  expect(read.headers.get('etag')).toBe(`"${result!.version.text}"`);
});

test('a later write of a key has seen the earlier one', async () => {
  const before = (await upsert([{ id: 'again', embedding: [1, 1, 1] }])).body.results[0]!;
  const after = (await upsert([{ id: 'again', embedding: [2, 2, 2] }])).body.results[0]!;
  expect(after.coordinator).toBe(before.coordinator);
  expect(BigInt(after.version.hlc!)).toBeGreaterThan(BigInt(before.version.hlc!));
  expect(Number(after.version.counter)).toBeGreaterThan(Number(before.version.counter));
});

test('invalid items get their errors, the others are written', async () => {
  const { status, body } = await upsert([
    { id: 'mixed-1', embedding: [1, 2, 3] },
    { id: 'mixed-2', embedding: [1, 2] },
    { id: 'mixed-3', embedding: null, metadata: { empty: true } },
    { id: 'twice', embedding: [1, 2, 3] },
    { id: 'twice', embedding: [4, 5, 6] },
    {
      id: 'mixed-4',
      embedding: { base64: Buffer.from(new Float32Array([7, 8, 9]).buffer).toString('base64') },
    },
  ]);
  expect(status).toBe(200);
  expect(body.results.map((result) => result.error?.code ?? 'ok')).toEqual([
    'ok',
    'dimension_mismatch',
    'ok',
    'duplicate_key',
    'duplicate_key',
    'ok',
  ]);
  const read = await gateway.send('POST', `${vectors}/get`, {
    body: { ids: ['mixed-1', 'mixed-2', 'mixed-3', 'twice', 'mixed-4'] },
  });
  expect((read.body as { items: object[] }).items).toMatchObject([
    { embedding: [1, 2, 3] },
    { error: { code: 'vector_not_found' } },
    { embedding: null, metadata: { empty: true } },
    { error: { code: 'vector_not_found' } },
    { embedding: [7, 8, 9] },
  ]);
});

test('when all items fail the request fails with the first error and still tells about each', async () => {
  const answer = await upsert([
    { id: 'x', embedding: [1] },
    { id: '', embedding: [1, 2, 3] },
  ]);
  expect(answer.status).toBe(400);
  expect(answer.body).toMatchObject({
    code: 'dimension_mismatch',
    results: [{ error: { code: 'dimension_mismatch' } }, { error: { code: 'invalid_key' } }],
  });
});

test('a batch is spread over the nodes by shard, and the shard is the one that SQL computes', async () => {
  const ids = Array.from({ length: 60 }, (_, at) => `spread-${at}`);
  const { body } = await upsert(ids.map((id) => ({ id, embedding: [1, 2, 3] })));
  expect(new Set(body.results.map((result) => result.coordinator))).toEqual(new Set(['n1', 'n2', 'n3']));
  const [sql] = await gateway.sql<{ shards: number[] }>(
    0,
    'select array_agg(pgquorum.key_hash(k) % 64 order by n)::int[] as shards from unnest($1::text[]) with ordinality u(k, n)',
    [ids],
  );
  expect(body.results.map((result) => result.shard)).toEqual(sql!.shards);
});

test('a batch that a constraint refuses on one node is not written there, and says so item by item', async () => {
  for (const node of [0, 1, 2])
    await gateway.sql(node, `alter table docs add constraint no_bad check (metadata ->> 'bad' is null)`);
  try {
    const ids = Array.from({ length: 30 }, (_, at) => `checked-${at}`);
    const { body } = await upsert(
      ids.map((id, at) => ({
        id,
        embedding: [1, 2, 3],
        metadata: at === 0 ? { bad: 'yes, and secret' } : {},
      })),
    );
    const refused = body.results.filter((result) => result.error !== undefined);
    const kept = body.results.filter((result) => result.error === undefined);
    expect(refused.length).toBeGreaterThan(0);
    expect(kept.length).toBeGreaterThan(0);
    expect(new Set(refused.map((result) => result.error!.code))).toEqual(new Set(['constraint_violated']));
    expect(JSON.stringify(refused)).not.toContain('secret');
    const read = await gateway.send('POST', `${vectors}/get`, { body: { ids } });
    const there = (read.body as { items: { id: string; error?: object }[] }).items
      .filter((item) => item.error === undefined)
      .map((item) => item.id);
    expect(there).toEqual(kept.map((result) => result.id));
  } finally {
    for (const node of [0, 1, 2]) await gateway.sql(node, 'alter table docs drop constraint no_bad');
  }
});

test('numbers of metadata that JavaScript can not hold survive', async () => {
  const raw =
    '{"vectors":[{"id":"big","embedding":[1,2,3],"metadata":{"n":12345678901234567891,"list":[9007199254740993]}}]}';
  expect((await gateway.send('POST', vectors, { raw })).status).toBe(200);
  const text = await fetch(`http://127.0.0.1:${gateway.gateway.httpPort}${vectors}/big`).then((response) =>
    response.text(),
  );
  expect(text).toContain('"n":12345678901234567891');
  expect(text).toContain('[9007199254740993]');
});

test('a deleted vector is gone, its tombstone has a version, and deleting it again finds nothing', async () => {
  await upsert([{ id: 'gone', embedding: [1, 2, 3] }]);
  const deleted = await gateway.send('DELETE', `${vectors}/gone`);
  expect(deleted).toMatchObject({
    status: 200,
    body: { id: 'gone', version: { hlc: expect.any(String) }, consistency: 'one' },
  });
  expect((await gateway.send('GET', `${vectors}/gone`)).status).toBe(404);
  expect((await gateway.send('DELETE', `${vectors}/gone`)).status).toBe(404);
  await upsert([{ id: 'gone-2', embedding: [1, 2, 3] }]);
  const many = await gateway.send('POST', `${vectors}/delete`, { body: { ids: ['gone-2', 'never'] } });
  expect((many.body as WriteBody).results.map((result) => result.error?.code ?? 'ok')).toEqual([
    'ok',
    'vector_not_found',
  ]);
});

test('an id may hold anything but NUL', async () => {
  const id = `/%2F?#&"'\\ ü 𐍈 \n;--`;
  expect((await upsert([{ id, embedding: [1, 2, 3] }])).status).toBe(200);
  expect(await gateway.send('GET', `${vectors}/${encodeURIComponent(id)}`)).toMatchObject({
    status: 200,
    body: { id },
  });
  const long = 'ü'.repeat(256);
  expect((await upsert([{ id: long, embedding: [1, 2, 3] }])).status).toBe(200);
  expect((await gateway.send('GET', `${vectors}/${encodeURIComponent(long)}`)).status).toBe(200);
});

test('a repeat with the same key and body gives the same versions and writes nothing', async () => {
  const items = Array.from({ length: 12 }, (_, at) => ({ id: `keyed-${at}`, embedding: [at, 2, 3] }));
  const first = await upsert(items, { 'idempotency-key': 'k-1' });
  const second = await upsert(items, { 'idempotency-key': 'k-1' });
  expect(second.body).toEqual(first.body);
  await upsert([{ id: 'keyed-3', embedding: [9, 9, 9] }]);
  const third = await upsert(items, { 'idempotency-key': 'k-1' });
  expect(third.body.results.map((result) => result.version.text)).toEqual(
    first.body.results.map((result) => result.version.text),
  );
  expect(third.body.results[3]!.version).toMatchObject({ hlc: null, clock: null });
  expect((await gateway.send('GET', `${vectors}/keyed-3`)).body).toMatchObject({ embedding: [9, 9, 9] });
});

test('repeats at the same time write once', async () => {
  const items = [{ id: 'at-once', embedding: [1, 2, 3] }];
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => upsert(items, { 'idempotency-key': 'k-2' })),
  );
  expect(new Set(answers.map((answer) => answer.body.results[0]!.version.text)).size).toBe(1);
});

test('the same key with another body is refused, wherever its vectors belong', async () => {
  await upsert([{ id: 'spread-0', embedding: [1, 2, 3] }], { 'idempotency-key': 'k-3' });
  for (let at = 1; at < 12; at++) {
    const answer = await upsert([{ id: `spread-${at}`, embedding: [5, 5, 5] }], { 'idempotency-key': 'k-3' });
    expect(answer).toMatchObject({ status: 409, body: { code: 'idempotency_key_reused' } });
  }
  expect(
    (await gateway.send('DELETE', `${vectors}/spread-0`, { headers: { 'idempotency-key': 'k-3' } })).status,
  ).toBe(409);
  expect((await gateway.send('GET', `${vectors}/spread-1`)).body).toMatchObject({ embedding: [1, 2, 3] });
});

test('a keyed delete that is repeated answers as the first did', async () => {
  await upsert([{ id: 'keyed-gone', embedding: [1, 2, 3] }]);
  const first = await gateway.send('DELETE', `${vectors}/keyed-gone`, {
    headers: { 'idempotency-key': 'k-4' },
  });
  const second = await gateway.send('DELETE', `${vectors}/keyed-gone`, {
    headers: { 'idempotency-key': 'k-4' },
  });
  expect(first.status).toBe(200);
  expect(second.body).toEqual(first.body);
});

test('writers of the same keys in different orders do not fail', async () => {
  const ids = Array.from({ length: 20 }, (_, at) => `hot-${at}`);
  const orders = [ids, ids.toReversed(), ids.toSorted(() => 0.5 - Math.random())];
  const answers = await Promise.all(
    Array.from({ length: 12 }, (_, at) =>
      upsert(orders[at % 3]!.map((id) => ({ id, embedding: [at, 1, 1] }))),
    ),
  );
  expect(answers.map((answer) => answer.status)).toEqual(answers.map(() => 200));
  expect(
    answers.flatMap((answer) => answer.body.results).filter((result) => result.error !== undefined),
  ).toEqual([]);
});

test('a write that waits for a lock ends with its time', async () => {
  const { coordinator } = (await upsert([{ id: 'locked', embedding: [1, 2, 3] }])).body.results[0]!;
  const pg = await import('pg');
  const client = new pg.default.Client(gateway.nodes[nodeIndex(coordinator)]!.url);
  await client.connect();
  try {
    await client.query(`begin; select from docs where id = 'locked' for update`);
    const startedAt = performance.now();
    const answer = await gateway.send('POST', `${vectors}?timeoutMs=300`, {
      body: { vectors: [{ id: 'locked', embedding: [4, 5, 6] }] },
    });
    expect(answer).toMatchObject({ status: 504, body: { code: 'timeout' } });
    expect(performance.now() - startedAt).toBeLessThan(3000);
  } finally {
    await client.end();
  }
});

test('a collection that is dropped and made anew with another dimension is noticed', async () => {
  await gateway.send('PUT', '/v1/collections/changing', { body: { dimension: 3 } });
  const write = (embedding: number[]) =>
    gateway.send('POST', '/v1/collections/changing/vectors', { body: { vectors: [{ id: 'a', embedding }] } });
  expect((await write([1, 2, 3])).status).toBe(200);
  expect((await gateway.send('DELETE', '/v1/collections/changing')).status).toBe(204);
  expect((await write([1, 2, 3])).status).toBe(404);
  expect(
    (await gateway.send('PUT', '/v1/collections/changing', { body: { dimension: 2, vectorType: 'halfvec' } }))
      .status,
  ).toBe(201);
  expect((await write([1, 2, 3])).body).toMatchObject({ code: 'dimension_mismatch' });
  expect((await write([1, 70_000])).body).toMatchObject({ code: 'invalid_vector' });
  expect((await write([1, 2])).status).toBe(200);
  expect((await gateway.send('GET', '/v1/collections/changing')).body).toMatchObject({
    name: 'changing',
    definition: { dimension: 2, metric: 'cosine', index: { type: 'hnsw', m: 16, efConstruction: 64 } },
    shards: 64,
    bytes: expect.any(Number),
  });
});
