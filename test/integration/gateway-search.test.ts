/** Search: the nearest by each metric, filters, limits. Rows are put on all nodes by SQL, as replication would. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await freshGateway({ count: 2 });
  for (const metric of ['cosine', 'l2', 'inner-product', 'l1']) {
    const name = metric.replace('-', '_');
    expect(
      (await gateway.send('PUT', `/v1/collections/${name}`, { body: { dimension: 2, metric } })).status,
    ).toBe(201);
    for (const node of [0, 1])
      await gateway.sql(
        node,
        `insert into ${name} (id, embedding) values ('x', '[1,0]'), ('y', '[0,2]'), ('xy', '[3,3]'), ('far', '[-5,-5]'), ('none', null)`,
      );
  }
  await gateway.send('PUT', '/v1/collections/many', {
    body: { dimension: 2, vectorType: 'halfvec', index: { type: 'hnsw', m: 8, efConstruction: 32 } },
  });
  await gateway.send('PUT', '/v1/collections/plain', {
    body: { dimension: 2, metric: 'l2', index: { type: 'none' } },
  });
  for (const node of [0, 1]) {
    await gateway.sql(
      node,
      `insert into many (id, embedding, metadata) select i::text, array[cos(i / 1000.0), sin(i / 1000.0)]::real[]::public.halfvec, jsonb_build_object('n', i, 'even', i % 2 = 0) from generate_series(0, 1499) i`,
    );
    await gateway.sql(
      node,
      'insert into plain (id, embedding, metadata) select value ->> 0, $2::public.vector, value -> 1 from jsonb_array_elements($1::jsonb)',
      [JSON.stringify(Object.entries(metadata)), '[1,1]'],
    );
  }
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const metadata = {
  a: { n: 5, t: 'apple', tags: ['red', 'sweet'], deep: { er: true }, none: null },
  b: { n: 6.5, t: 'Banana', tags: ['yellow'], deep: { er: false } },
  c: { n: '7', t: 'cherry', tags: 'red' },
  d: { n: 12345678901234567890n.toString(), other: { n: 1 } },
  e: {},
};

interface Found {
  matches: {
    id: string;
    distance: number;
    score: number;
    metadata?: unknown;
    embedding?: number[];
    version?: { text: string };
  }[];
}

const search = async (collection: string, body: object) => {
  const answer = await gateway.send('POST', `/v1/collections/${collection}/search`, { body });
  return { status: answer.status, body: answer.body as Found & Record<string, unknown> };
};

test.each([
  ['cosine', ['x', 'xy', 'y', 'far'], 0, 1],
  ['l2', ['x', 'y', 'xy', 'far'], 0, 1],
  ['inner_product', ['xy', 'x', 'y', 'far'], -3, 3],
  ['l1', ['x', 'y', 'xy', 'far'], 0, 1],
])(
  '%s finds the nearest first, and nothing that has no embedding',
  async (collection, order, distance, score) => {
    const { status, body } = await search(collection, { embedding: [1, 0] });
    expect(status).toBe(200);
    expect(body.matches.map((match) => match.id)).toEqual(order);
    expect(body.matches[0]!.distance).toBeCloseTo(distance);
    expect(body.matches[0]!.score).toBeCloseTo(score);
    const scores = body.matches.map((match) => match.score);
    expect(scores).toEqual(scores.toSorted((a, b) => b - a));
    expect(body).toMatchObject({ shardsSearched: 64, shardsTotal: 64, partial: false });
  },
);

test('a search near a stored vector, with what is asked for', async () => {
  const { body } = await search('l2', { id: 'y', k: 2, include: ['embedding', 'version'] });
  expect(body.matches).toMatchObject([
    { id: 'y', distance: 0, embedding: [0, 2], version: { text: expect.stringMatching(/^[12]\.\d+$/) } },
    { id: 'x', embedding: [1, 0] },
  ]);
  expect(body.matches[0]).not.toHaveProperty('metadata');
});

test('maxDistance ends the list', async () => {
  expect(
    (await search('l2', { embedding: [1, 0], maxDistance: 2.5 })).body.matches.map((match) => match.id),
  ).toEqual(['x', 'y']);
});

test('k beyond ef_search finds them all, also through a filter that few rows pass', async () => {
  expect((await search('many', { embedding: [1, 0], k: 1200 })).body.matches).toHaveLength(1200);
  const even = (await search('many', { embedding: [1, 0], k: 500, filter: { even: true } })).body.matches;
  expect(even).toHaveLength(500);
  expect(even.every((match) => (match.metadata as { even: boolean }).even)).toBe(true);
  const last = (
    await search('many', { embedding: [1, 0], k: 3, efSearch: 10, filter: { n: { $gte: 1497 } } })
  ).body.matches;
  expect(last.map((match) => match.id).toSorted()).toEqual(['1497', '1498', '1499']);
});

test.each<[string, object, string[]]>([
  ['equality of a number', { n: 5 }, ['a']],
  ['equality of a text', { t: 'apple' }, ['a']],
  ['equality of null', { none: null }, ['a']],
  ['equality of an array', { tags: ['red', 'sweet'] }, ['a']],
  ['equality of an object', { deep: { er: false } }, ['b']],
  ['a text does not equal an array that has it', { tags: 'red' }, ['c']],
  ['a path', { 'deep.er': true }, ['a']],
  ['$eq', { n: { $eq: 6.5 } }, ['b']],
  ['$ne matches where the field is missing', { n: { $ne: 5 } }, ['b', 'c', 'd', 'e']],
  ['$gt of numbers leaves texts out', { n: { $gt: 5 } }, ['b']],
  ['a range', { n: { $gte: 5, $lt: 6.5 } }, ['a']],
  ['$lte', { n: { $lte: 6.5 } }, ['a', 'b']],
  ['texts by code point', { t: { $gt: 'Z' } }, ['a', 'c']],
  ['$in', { n: { $in: [5, '7', null] } }, ['a', 'c']],
  ['$in of nothing', { n: { $in: [] } }, []],
  ['$exists', { none: { $exists: true } }, ['a']],
  ['not $exists', { n: { $exists: false } }, ['e']],
  ['$contains', { tags: { $contains: 'red' } }, ['a']],
  ['$and', { $and: [{ t: 'apple' }, { n: 5 }] }, ['a']],
  ['$or', { $or: [{ t: 'apple' }, { n: '7' }] }, ['a', 'c']],
  ['$not', { $not: { n: { $gt: 5 } } }, ['a', 'c', 'd', 'e']],
  ['several fields', { t: 'Banana', n: { $gt: 6 } }, ['b']],
  ['quotes and SQL in names and values', { "x'; drop table plain; --": "'); drop table plain; --" }, []],
  ['an empty filter', {}, ['a', 'b', 'c', 'd', 'e']],
])('filter: %s', async (_name, filter, ids) => {
  const { status, body } = await search('plain', { embedding: [1, 1], filter, k: 100 });
  expect([status, body.matches?.map((match) => match.id).toSorted()]).toEqual([200, ids]);
});
