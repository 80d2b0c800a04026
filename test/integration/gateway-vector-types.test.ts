/** Sparse vectors and vectors of bits by HTTP: searched by every metric against a naive model, guarded at their limits. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { addRecord } from './conflict-records.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await freshGateway({ count: 1 });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

type Sparse = { indices: number[]; values: number[]; dimension?: number };
type Embedding = Sparse | string | null;

interface Match {
  id: string;
  distance: number;
  score: number;
  embedding?: Embedding;
}
interface Result {
  id: string | null;
  version?: object;
  error?: { code: string; detail: string };
}

async function create(name: string, definition: object): Promise<void> {
  const answer = await gateway.send('PUT', `/v1/collections/${name}`, { body: definition });
  expect(answer).toMatchObject({ status: 201 });
}

async function upsert(name: string, items: Record<string, unknown>) {
  const vectors = Object.entries(items).map(([id, embedding]) => ({ id, embedding }));
  const answer = await gateway.send('POST', `/v1/collections/${name}/vectors`, { body: { vectors } });
  return { status: answer.status, ...(answer.body as { results: Result[]; code?: string }) };
}

async function search(name: string, body: object): Promise<Match[]> {
  const answer = await gateway.send('POST', `/v1/collections/${name}/search`, { body });
  expect(answer).toMatchObject({ status: 200 });
  return (answer.body as { matches: Match[] }).matches;
}

const read = async (name: string, id: string) =>
  ((await gateway.send('GET', `/v1/collections/${name}/vectors/${id}`)).body as { embedding: Embedding })
    .embedding;
const range = (count: number) => Array.from({ length: count }, (_, at) => at);

const dense = (embedding: Sparse | string): number[] =>
  typeof embedding === 'string'
    ? Array.from(embedding, Number)
    : range(5).map((index) => embedding.values[embedding.indices.indexOf(index)] ?? 0);
const sum = (a: number[], b: number[], each: (x: number, y: number) => number): number =>
  a.reduce((total, x, at) => total + each(x, b[at]!), 0);
const product = (a: number[], b: number[]) => sum(a, b, (x, y) => x * y);
const apart = (a: number[], b: number[]) => sum(a, b, (x, y) => Math.abs(x - y));
const jaccard = (a: number[], b: number[]) => product(a, b) / sum(a, b, Math.max) || 0;

/** Distance and score of each metric, by its definition. */
const naive: Record<string, (a: number[], b: number[]) => readonly [distance: number, score: number]> = {
  cosine: (a, b) => {
    const similarity = product(a, b) / Math.sqrt(product(a, a) * product(b, b));
    return [1 - similarity, similarity];
  },
  l2: (a, b) => {
    const distance = Math.sqrt(sum(a, b, (x, y) => (x - y) ** 2));
    return [distance, 1 / (1 + distance)];
  },
  'inner-product': (a, b) => [0 - product(a, b), product(a, b)],
  l1: (a, b) => [apart(a, b), 1 / (1 + apart(a, b))],
  hamming: (a, b) => [apart(a, b), 1 / (1 + apart(a, b))],
  jaccard: (a, b) => [1 - jaccard(a, b), jaccard(a, b)],
};

const sparse: Record<string, Sparse> = {
  same: { indices: [0, 3], values: [1, 2], dimension: 5 },
  near: { indices: [0, 3, 4], values: [1, 1.5, 0.5], dimension: 5 },
  other: { indices: [1], values: [-2], dimension: 5 },
  back: { indices: [0, 3], values: [-1, -1], dimension: 5 },
  zero: { indices: [], values: [], dimension: 5 },
};
const bits: Record<string, string> = {
  same: '1111100000',
  near: '1111000000',
  other: '0000011111',
  mixed: '1010101010',
  zero: '0000000000',
};

const cases = Object.keys(naive).flatMap((metric) =>
  ['hnsw', 'none'].map((index) => [metric, index] as const),
);

test.each(cases)('%s with index %s finds the nearest first, by vector and by id', async (metric, index) => {
  const isBits = metric === 'hamming' || metric === 'jaccard';
  const items: Record<string, Sparse | string> = isBits ? bits : sparse;
  const name = `${metric.replace('-', '_')}_${index}`;
  await create(name, {
    dimension: isBits ? 10 : 5,
    vectorType: isBits ? 'bit' : 'sparsevec',
    metric,
    index: { type: index },
  });
  expect((await upsert(name, { ...items, none: null })).results.map(({ error }) => error)).toEqual(
    range(6).map(() => undefined),
  );
  const expected = Object.entries(items)
    .map(([id, embedding]) => {
      const [distance, score] = naive[metric]!(dense(items['same']!), dense(embedding));
      return { id, embedding, distance, score };
    })
    .filter(({ distance }) => !Number.isNaN(distance))
    .toSorted((a, b) => a.distance - b.distance || (a.id < b.id ? -1 : 1));
  expect(expected.length).toBe(metric === 'cosine' ? 4 : 5);
  for (const near of [{ embedding: items['same'] }, { id: 'same' }]) {
    const found = await search(name, { ...near, include: ['embedding'] });
    expect(found).toEqual(
      expected.map((one) => ({
        ...one,
        distance: expect.closeTo(one.distance, 5),
        score: expect.closeTo(one.score, 5),
      })),
    );
  }
  expect((await search(name, { id: 'same', k: 1 })).map(({ id }) => id)).toEqual([expected[0]!.id]);
  const near = expected.filter(({ distance }) => distance <= 0.9).map(({ id }) => id);
  expect((await search(name, { id: 'same', maxDistance: 0.9 })).map(({ id }) => id)).toEqual(near);
  const indexes = await gateway.sql<{ opclass: string }>(
    0,
    `select o.opcname as opclass from pg_index i join pg_opclass o on o.oid = any(i.indclass::oid[]) join pg_am m on m.oid = o.opcmethod
     where i.indrelid = $1::regclass and m.amname = 'hnsw'`,
    [name],
  );
  const opclass = `${isBits ? 'bit' : 'sparsevec'}_${metric === 'inner-product' ? 'ip' : metric}_ops`;
  expect(indexes).toEqual(index === 'hnsw' ? [{ opclass }] : []);
});

test('the metric of bits is hamming unless another is named, and a table of bits is plain SQL', async () => {
  await create('defaults', { dimension: 3, vectorType: 'bit' });
  expect((await gateway.send('GET', '/v1/collections/defaults')).body).toMatchObject({
    definition: { vectorType: 'bit', metric: 'hamming' },
  });
  await gateway.sql(0, `insert into defaults (id, embedding) values ('s', B'011')`);
  expect(await read('defaults', 's')).toBe('011');
  await expect(gateway.sql(0, `insert into defaults (id, embedding) values ('t', B'01')`)).rejects.toThrow(
    'does not match type bit(3)',
  );
  expect(
    await gateway.send('PATCH', '/v1/collections/defaults', {
      body: { conflicts: { cosineTolerance: 0.1 } },
    }),
  ).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
});

test('a sparse vector may come in any order, with zeros, and is stored without them', async () => {
  await create('loose', { dimension: 5, vectorType: 'sparsevec' });
  await upsert('loose', { a: { indices: [4, 0, 2], values: [0.1, 3, 0] }, b: { indices: [], values: [] } });
  expect(await read('loose', 'a')).toEqual({
    indices: [0, 4],
    values: [3, 0.1],
    dimension: 5,
  });
  expect(await gateway.sql(0, 'select id, embedding::text from loose order by id')).toEqual([
    { id: 'a', embedding: '{1:3,5:0.1}/5' },
    { id: 'b', embedding: '{}/5' },
  ]);
  const patch = (body: object) => gateway.send('PATCH', '/v1/collections/loose/vectors/a', { body });
  expect(await patch({ embedding: { indices: [1], values: [2] }, metadata: { n: 1 } })).toMatchObject({
    status: 200,
  });
  expect(await read('loose', 'a')).toEqual({ indices: [1], values: [2], dimension: 5 });
  expect(await patch({ embedding: { indices: [5], values: [2] } })).toMatchObject({
    status: 400,
    body: { code: 'invalid_vector' },
  });
  expect((await patch({ embedding: null })).status).toBe(200);
  expect(await read('loose', 'a')).toBeNull();
  const zero = await gateway.send('POST', '/v1/collections/loose/search', {
    body: { embedding: { indices: [0], values: [0] } },
  });
  expect(zero).toMatchObject({ status: 400, body: { code: 'invalid_vector' } });
});

test('each bad item has its own error, and the others of the batch are written', async () => {
  await create('guarded', { dimension: 5, vectorType: 'sparsevec' });
  const bad: Record<string, [unknown, string]> = {
    numbers: [[1, 2, 3, 4, 5], 'invalid_vector'],
    base64: [{ base64: 'AAAA' }, 'invalid_vector'],
    bits: ['10101', 'invalid_vector'],
    range: [{ indices: [5], values: [1] }, 'invalid_vector'],
    twice: [{ indices: [1, 1], values: [1, 2] }, 'invalid_vector'],
    huge: [{ indices: [1], values: [1e39] }, 'invalid_vector'],
    dimension: [{ indices: [1], values: [1], dimension: 6 }, 'dimension_mismatch'],
  };
  const items = Object.fromEntries(Object.entries(bad).map(([id, [embedding]]) => [id, embedding]));
  const { status, results } = await upsert('guarded', { ...items, good: { indices: [4], values: [1] } });
  expect(status).toBe(200);
  expect(results.map(({ error }) => error?.code)).toEqual([
    ...Object.values(bad).map(([, code]) => code),
    undefined,
  ]);
  expect(await gateway.sql(0, 'select id from guarded')).toEqual([{ id: 'good' }]);
  expect(await upsert('guarded', { a: { indices: [1], values: [1], base: 1 } })).toMatchObject({
    status: 400,
    code: 'unknown_field',
  });
});

test('bits of another length or other characters are refused item by item', async () => {
  await create('guarded_bits', { dimension: 9, vectorType: 'bit' });
  const { results } = await upsert('guarded_bits', {
    short: '10101010',
    long: '1010101010',
    two: '101010102',
    numbers: [1, 0, 1, 0, 1, 0, 1, 0, 1],
    good: '101010101',
  });
  expect(results.map(({ error }) => error?.code)).toEqual([
    'dimension_mismatch',
    'dimension_mismatch',
    'invalid_vector',
    'invalid_vector',
    undefined,
  ]);
  const patch = (embedding: unknown) =>
    gateway.send('PATCH', '/v1/collections/guarded_bits/vectors/good', { body: { embedding } });
  expect(await patch('1')).toMatchObject({ status: 400, body: { code: 'dimension_mismatch' } });
  expect((await patch('000000001')).status).toBe(200);
  expect(await gateway.sql(0, 'select id, embedding::text from guarded_bits')).toEqual([
    { id: 'good', embedding: '000000001' },
  ]);
});

test('the largest vectors are written, indexed and found; what is larger is refused', async () => {
  const many = (count: number): Sparse => ({
    indices: range(count).map((at) => at * 60),
    values: range(count).map((at) => at + 1),
  });
  await create('wide', { dimension: 1_000_000, vectorType: 'sparsevec' });
  await create('wide_plain', { dimension: 1_000_000, vectorType: 'sparsevec', index: { type: 'none' } });
  await create('wide_bits', { dimension: 64_000, vectorType: 'bit' });
  expect((await upsert('wide', { a: many(1000), b: many(1001) })).results).toMatchObject([
    { id: 'a', version: {} },
    { id: 'b', error: { code: 'invalid_vector', detail: expect.stringContaining('1000') } },
  ]);
  // A vector to search near is in no index.
  expect(await search('wide', { embedding: many(16_000) })).toMatchObject([{ id: 'a' }]);
  expect((await upsert('wide_plain', { a: many(16_000), b: many(16_001) })).results).toMatchObject([
    { id: 'a', version: {} },
    { id: 'b', error: { code: 'invalid_vector', detail: expect.stringContaining('16000') } },
  ]);
  expect(await read('wide_plain', 'a')).toEqual({ ...many(16_000), dimension: 1_000_000 });
  const ones = '1'.repeat(64_000);
  expect((await upsert('wide_bits', { a: ones, b: `${ones.slice(1)}0` })).status).toBe(200);
  expect(await search('wide_bits', { embedding: ones })).toMatchObject([
    { id: 'a', distance: 0 },
    { id: 'b', distance: 1, score: 0.5 },
  ]);
});

test('an index of the users that can not hold a sparse vector is a clear error', async () => {
  await create('theirs', { dimension: 2000, vectorType: 'sparsevec', index: { type: 'none' } });
  await gateway.sql(0, 'create index on theirs using hnsw (embedding sparsevec_l2_ops)');
  expect(
    (await upsert('theirs', { a: { indices: range(1001), values: range(1001).map(() => 1) } })).results,
  ).toMatchObject([{ error: { code: 'invalid_vector', detail: expect.stringContaining('index') } }]);
});

test('losing sparse vectors within the cosine tolerance are noise', async () => {
  await create('noisy', { dimension: 3, vectorType: 'sparsevec', conflicts: { cosineTolerance: 0.1 } });
  await upsert('noisy', { k: { indices: [0, 1], values: [1, 1] } });
  const lost = async (embedding: string | null, counter: number) => {
    const row = { id: 'k', embedding, metadata: '{"lost": 1}' };
    const id = await addRecord(gateway, { collection: 'noisy', key: 'k', row, counter });
    return (await gateway.send('GET', `/v1/conflicts/${id}`)).body;
  };
  expect(await lost('{1:1,2:1.1}/3', 1000)).toMatchObject({ noise: true });
  expect(await lost('{1:1,3:1}/3', 1001)).toMatchObject({ noise: false });
  expect(await lost('{1:1,2:1}/4', 1002)).toMatchObject({ noise: false });
  expect(await lost(null, 1003)).toMatchObject({ noise: false });
});

test.each([
  ['restored_sparse', { dimension: 3, vectorType: 'sparsevec' }, { indices: [0], values: [1] }, '{2:0.1}/3'],
  ['restored_bits', { dimension: 3, vectorType: 'bit' }, '101', '010'],
])('%s: a losing vector is restored as it was', async (name, definition, embedding, lost) => {
  await create(name, definition);
  await upsert(name, { k: embedding });
  const row = { id: 'k', embedding: lost, metadata: '{}' };
  const id = await addRecord(gateway, { collection: name, key: 'k', row, counter: 1000 });
  expect((await gateway.send('POST', `/v1/conflicts/${id}/restore`)).status).toBe(200);
  expect(await gateway.sql(0, `select embedding::text from ${name}`)).toEqual([{ embedding: lost }]);
  expect(await read(name, 'k')).toEqual(
    lost === '010' ? lost : { indices: [1], values: [0.1], dimension: 3 },
  );
});
