/** CRDT fields in searches: as filters and in what is found. Written on all nodes by SQL, as replication would. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await freshGateway({ count: 2 });
  const conflicts = {
    strategy: 'crdt',
    crdt: { views: 'g-counter', stock: 'pn-counter', title: 'lww-register', tags: 'or-set' },
  };
  const definition = { dimension: 2, metric: 'l2', conflicts };
  for (const name of ['docs', 'many'])
    expect((await gateway.send('PUT', `/v1/collections/${name}`, { body: definition })).status).toBe(201);
  await gateway.send('PUT', '/v1/collections/plain', { body: { dimension: 2 } });
  for (const node of [0, 1]) {
    const sql = (text: string) => gateway.sql(node, text);
    await sql(
      `insert into docs (id, embedding, metadata) values ('a', '[1,0]', '{"views": 100, "crdt": {"views": 1}}'), ('b', '[2,0]', '{}'), ('c', '[3,0]', '{}')`,
    );
    await sql(
      `select pgquorum.counter_add('docs', 'a', 'views', 5), pgquorum.counter_add('docs', 'b', 'views', 7)`,
    );
    await sql(`select pgquorum.counter_add('docs', 'a', 'stock', -3)`);
    await sql(
      `select pgquorum.set_add('docs', 'a', 'tags', 'red'), pgquorum.set_add('docs', 'b', 'tags', 'blue')`,
    );
    await sql(`select pgquorum.set_add('docs', 'b', 'tags', 'red')`);
    await sql(
      `select pgquorum.register_set('docs', 'a', 'title', '{"de": "Apfel", "n": [1, 2]}'), pgquorum.register_set('docs', 'b', 'title', '"Birne"')`,
    );
    await sql(
      `insert into many (id, embedding) select i::text, array[i, 0]::real[]::public.vector from generate_series(0, 999) i`,
    );
    await sql(
      `select count(pgquorum.counter_add('many', i::text, 'views', i)) from generate_series(1, 999) i where i % 100 = 0`,
    );
    await sql(
      `insert into plain (id, embedding, metadata) values ('a', '[1,0]', '{"crdt": {"views": 1}}'), ('b', '[1,0]', '{}')`,
    );
    await sql('analyze many');
  }
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const search = async (collection: string, body: object) => {
  const answer = await gateway.send('POST', `/v1/collections/${collection}/search`, {
    body: { embedding: [0.1, 0], ...body },
  });
  return answer as typeof answer & { body: { matches: { id: string; crdt?: object; metadata?: object }[] } };
};
const found = async (collection: string, filter: object, k = 10) => {
  const { status, body } = await search(collection, { filter, k });
  expect([filter, status]).toEqual([filter, 200]);
  return body.matches.map(({ id }) => id);
};

test.each<[filter: object, ids: string[]]>([
  [{ 'crdt.views': 5 }, ['a']],
  [{ 'crdt.views': { $eq: 5.0 } }, ['a']],
  [{ 'crdt.views': { $gt: 5 } }, ['b']],
  [{ 'crdt.views': { $gte: 5, $lt: 7 } }, ['a']],
  [{ 'crdt.views': 0 }, ['c']],
  [{ 'crdt.views': { $in: [0, 7] } }, ['b', 'c']],
  [{ 'crdt.views': { $ne: 7 } }, ['a', 'c']],
  [{ 'crdt.views': '5' }, []],
  [{ 'crdt.stock': { $lt: 0 } }, ['a']],
  [{ 'crdt.tags': { $contains: 'red' } }, ['a', 'b']],
  [{ 'crdt.tags': ['blue', 'red'] }, ['b']],
  [{ 'crdt.tags': [] }, ['c']],
  [{ 'crdt.title': 'Birne' }, ['b']],
  [{ 'crdt.title': null }, ['c']],
  [{ 'crdt.title.de': 'Apfel' }, ['a']],
  [{ 'crdt.title.de': { $exists: true } }, ['a']],
  [{ 'crdt.title.n': { $contains: 2 } }, ['a']],
  [{ 'crdt.title': { $gt: 'A' } }, ['b']],
  [{ $and: [{ 'crdt.tags': { $contains: 'red' } }, { $not: { 'crdt.views': 5 } }] }, ['b']],
  [{ views: 100 }, ['a']],
  [{ views: 100, 'crdt.views': 5 }, ['a']],
  [{ crdt: { views: 1 } }, ['a']],
])('%j finds %j', async (filter, ids) => {
  expect(await found('docs', filter)).toEqual(ids);
});

test('without CRDT fields the same path is metadata', async () => {
  expect(await found('plain', { 'crdt.views': 1 })).toEqual(['a']);
});

test('a filter that few rows pass finds them all, nearest first', async () => {
  expect(await found('many', { 'crdt.views': { $gte: 300 } }, 4)).toEqual(['300', '400', '500', '600']);
});

test('the values come with the matches when they are asked for', async () => {
  const { body } = await search('docs', { include: ['crdt'], filter: { 'crdt.views': { $lt: 7 } } });
  expect(body.matches.map(({ id, crdt }) => [id, crdt])).toEqual([
    ['a', { views: 5, stock: -3, title: { de: 'Apfel', n: [1, 2] }, tags: ['red'] }],
    ['c', { views: 0, stock: 0, title: null, tags: [] }],
  ]);
  expect(body.matches[0]).not.toHaveProperty('metadata');
  expect((await search('docs', {})).body.matches[0]).not.toHaveProperty('crdt');
  const all = await search('docs', { include: ['crdt', 'version', 'metadata', 'embedding'], k: 1 });
  expect(all.body.matches[0]).toMatchObject({
    crdt: { views: 5 },
    version: { text: expect.any(String) },
    embedding: [1, 0],
  });
});

test('fields that are not declared are refused', async () => {
  expect(await search('docs', { filter: { 'crdt.likes': 1 } })).toMatchObject({
    status: 400,
    body: { code: 'crdt_unknown_field', detail: expect.stringMatching(/filter\.crdt\.likes/) },
  });
  expect(await search('docs', { filter: { 'crdt.__proto__': 1 } })).toMatchObject({ status: 400 });
  expect(await search('plain', { include: ['crdt'] })).toMatchObject({
    status: 400,
    body: { code: 'crdt_unknown_field' },
  });
  expect(await search('docs', { include: ['fields'] })).toMatchObject({ body: { code: 'invalid_request' } });
});
