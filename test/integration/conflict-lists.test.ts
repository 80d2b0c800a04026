/** Lists and counts of conflict records, by every filter, with what each record is worth. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { addRecord } from './conflict-records.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;

interface Item {
  key: string;
  state: string;
  kind: string;
  noise: boolean | null;
}

const row = (id: string, embedding: string | null = '[0,1,0]') => ({ id, embedding, metadata: '{"a": 1}' });

beforeAll(async () => {
  gateway = await freshGateway();
  for (const [name, conflicts] of [
    ['docs', { cosineTolerance: 0.01 }],
    ['others', {}],
  ] as const)
    await gateway.send('PUT', `/v1/collections/${name}`, { body: { dimension: 3, conflicts } });
  for (const [id, embedding] of [
    ['same', [0, 1, 0]],
    ['near', [0.01, 1, 0]],
    ['far', [1, 0, 0]],
    ['dead', [1, 1, 1]],
  ] as const) {
    for (const collection of ['docs', 'others'])
      await gateway.send('POST', `/v1/collections/${collection}/vectors`, {
        body: { vectors: [{ id, embedding, metadata: id === 'same' ? { a: 1 } : { b: 2 } }] },
      });
  }
  for (const collection of ['docs', 'others'])
    await gateway.send('DELETE', `/v1/collections/${collection}/vectors/dead`);
  // Without replication the nodes hold what they were given: all get the rows and versions of the nodes that took the writes.
  for (const collection of ['docs', 'others']) await spread(collection);
  let counter = 0;
  const at = (hour: number) => `2026-01-01T${String(hour).padStart(2, '0')}:00:00Z`;
  const add = (record: Omit<Parameters<typeof addRecord>[1], 'counter'>) =>
    addRecord(gateway, { ...record, counter: ++counter });
  await add({ key: 'same', row: row('same'), foundAt: at(1) });
  await add({ key: 'near', row: row('near'), foundAt: at(2), origin: 3 });
  await add({ key: 'far', row: row('far'), foundAt: at(3), state: 'superseded' });
  await add({ key: 'far', row: null, foundAt: at(4), kind: 'update-delete', origin: 3 });
  await add({ key: 'dead', row: null, foundAt: at(5), kind: 'delete-delete', state: 'resolved' });
  await add({ key: 'dead', row: row('dead'), foundAt: at(6), kind: 'model-guard' });
  await add({ collection: 'others', key: 'same', row: row('same'), foundAt: at(7) });
  await add({ collection: 'others', key: 'near', row: row('near'), foundAt: at(8) });
  await add({
    collection: 'others',
    key: 'far',
    row: row('far', null),
    foundAt: at(9),
    kind: 'insert-insert',
  });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

async function spread(collection: string): Promise<void> {
  const rows = new Map<string, object>();
  const versions = new Map<string, object>();
  for (const node of gateway.nodes.keys()) {
    for (const one of await gateway.sql<{ id: string }>(
      node,
      `select id, embedding::text, metadata from ${collection}`,
    ))
      rows.set(one.id, one);
    for (const one of await gateway.sql<{ id: string }>(node, `select * from pgquorum.version_${collection}`))
      versions.set(one.id, one);
  }
  const fill = (table: string) =>
    `insert into ${table} select * from jsonb_populate_recordset(null::${table}, $1) on conflict do nothing`;
  for (const node of gateway.nodes.keys()) {
    await gateway.sql(node, fill(collection), [JSON.stringify([...rows.values()])]);
    await gateway.sql(node, `delete from pgquorum.version_${collection}`);
    await gateway.sql(node, fill(`pgquorum.version_${collection}`), [JSON.stringify([...versions.values()])]);
  }
}

const list = async (query: string): Promise<Item[]> => {
  const answer = await gateway.send('GET', `/v1/conflicts?${query}`);
  expect(answer.status).toBe(200);
  return (answer.body as { items: Item[] }).items;
};
const keys = async (query: string) => (await list(query)).map(({ key }) => key);

test('a list is filtered by collection, key, state, kind, origin and time', async () => {
  expect(await keys('collection=docs')).toEqual(['dead', 'dead', 'far', 'far', 'near', 'same']);
  expect(await keys('key=same')).toEqual(['same', 'same']);
  expect(await keys('state=resolved')).toEqual(['dead']);
  expect(await keys('kind=model-guard')).toEqual(['dead']);
  expect(await keys('origin=n3')).toEqual(['far', 'near']);
  expect(await keys('origin=nobody')).toEqual([]);
  expect(await keys('since=2026-01-01T08:00:00Z')).toEqual(['far', 'near']);
  expect(await keys('until=2026-01-01T02:00:00Z')).toEqual(['same']);
  expect(
    await keys(`since=${encodeURIComponent('2026-01-01T04:00:00+02:00')}&until=2026-01-01T04:00:00Z`),
  ).toEqual(['far', 'near']);
  expect(await keys('collection=docs&state=open&origin=n3&kind=update-update')).toEqual(['near']);
});

test('noise is what equals the current row, or lies within the tolerance of the collection', async () => {
  const noise = async (query: string) =>
    (await list(query)).map(({ key, kind, noise: is }) => [key, kind, is]);
  expect(await noise('collection=docs')).toEqual([
    ['dead', 'model-guard', false],
    ['dead', 'delete-delete', true],
    ['far', 'update-delete', false],
    ['far', 'update-update', false],
    ['near', 'update-update', true],
    ['same', 'update-update', true],
  ]);
  // Without a tolerance only equal rows are.
  expect(await noise('collection=others')).toEqual([
    ['far', 'insert-insert', false],
    ['near', 'update-update', false],
    ['same', 'update-update', true],
  ]);
  expect(await keys('noise=true')).toEqual(['same', 'dead', 'near', 'same']);
  expect(await keys('noise=false&collection=docs')).toEqual(['dead', 'far', 'far']);
});

test('pages of a list that is filtered by noise have neither gaps nor repetitions', async () => {
  const found: string[] = [];
  let cursor = '';
  do {
    const answer = await gateway.send('GET', `/v1/conflicts?noise=true&limit=1${cursor}`);
    const page = answer.body as { items: Item[]; nextCursor?: string };
    found.push(...page.items.map(({ key }) => key));
    cursor = page.nextCursor === undefined ? '' : `&cursor=${encodeURIComponent(page.nextCursor)}`;
  } while (cursor !== '');
  expect(found).toEqual(['same', 'dead', 'near', 'same']);
});

test('an item tells both versions, the losing row and what the key is now', async () => {
  const [item] = await list('collection=docs&key=near');
  const current = (await gateway.send('GET', '/v1/collections/docs/vectors/near')).body as {
    version: { text: string };
  };
  expect(item).toMatchObject({
    loser: {
      version: { text: '3.2', origin: 'n3', counter: '2', hlc: '5', clock: { 3: '2' } },
      deleted: false,
      row: row('near'),
    },
    winner: { text: '1.7', origin: 'n1', counter: '7', hlc: '6', clock: null },
    current: { version: { text: current.version.text }, deleted: false },
    decidedBy: 'lww',
    reason: 'older',
    foundAt: '2026-01-01T02:00:00.000000Z',
    stateAt: '1970-01-01T00:00:00.000Z',
    stateHlc: '6',
    stateOrigin: 'n1',
  });
  expect(await list('collection=docs&kind=model-guard')).toMatchObject([{ current: { deleted: true } }]);
});

test('counts are by collection, state and kind, with the same filters', async () => {
  const count = async (query: string) => {
    const answer = await gateway.send('GET', `/v1/conflicts/count?${query}`);
    expect(answer.status).toBe(200);
    return answer.body;
  };
  expect(await count('')).toEqual({
    items: [
      { collection: 'docs', state: 'open', kind: 'model-guard', count: 1 },
      { collection: 'docs', state: 'open', kind: 'update-delete', count: 1 },
      { collection: 'docs', state: 'open', kind: 'update-update', count: 2 },
      { collection: 'docs', state: 'resolved', kind: 'delete-delete', count: 1 },
      { collection: 'docs', state: 'superseded', kind: 'update-update', count: 1 },
      { collection: 'others', state: 'open', kind: 'insert-insert', count: 1 },
      { collection: 'others', state: 'open', kind: 'update-update', count: 2 },
    ],
    total: 9,
  });
  expect(await count('noise=true&state=open')).toEqual({
    items: [
      { collection: 'docs', state: 'open', kind: 'update-update', count: 2 },
      { collection: 'others', state: 'open', kind: 'update-update', count: 1 },
    ],
    total: 3,
  });
  expect(await count('origin=n3&until=2026-01-01T03:00:00Z')).toMatchObject({ total: 1 });
  expect(await count('noise=false&collection=nowhere')).toEqual({ items: [], total: 0 });
});

test.each(['kind=fight', 'state=closed', 'noise=maybe', 'since=yesterday', 'until=2026-13-01T00:00:00Z'])(
  'the filter %s is refused',
  async (query) => {
    for (const path of ['/v1/conflicts', '/v1/conflicts/count'])
      expect(await gateway.send('GET', `${path}?${query}`)).toMatchObject({
        status: 400,
        body: { code: 'invalid_request' },
      });
  },
);

test('counts have no pages', async () => {
  expect(await gateway.send('GET', '/v1/conflicts/count?limit=3')).toMatchObject({
    status: 400,
    body: { code: 'unknown_field' },
  });
});
