/** Conflict records: listed, read, restored. The records are put in as apply would leave them. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { addRecord as addRecordTo, type Loser } from './conflict-records.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;
const vectors = '/v1/collections/docs/vectors';

beforeAll(async () => {
  gateway = await freshGateway();
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const addRecord = (loser: Loser): Promise<string> => addRecordTo(gateway, loser);

const write = (id: string, embedding: number[]) =>
  gateway.send('POST', vectors, { body: { vectors: [{ id, embedding, metadata: { now: true } }] } });
const read = (id: string) => gateway.send('GET', `${vectors}/${id}`);

interface Restored {
  coordinator: string;
  replaced: string | null;
  version: { text: string };
}

test('a restore writes the losing row again, exactly, and what it replaces becomes a record', async () => {
  await write('a', [1, 2, 3]);
  const before = (await read('a')).body as { version: { text: string } };
  const row = {
    id: 'a',
    embedding: '[0.1,1e-38,3.4028235e+38]',
    metadata: '{"deep": {"n": 12345678901234567890, "t": "ü\\"\\\\"}}',
  };
  const id = await addRecord({ key: 'a', row, counter: 1000 });
  const restored = await gateway.send('POST', `/v1/conflicts/${id}/restore`);
  expect(restored.status).toBe(200);
  const { coordinator, replaced, version } = restored.body as Restored;
  const node = gateway.nodes.findIndex((one) => one.name === coordinator);
  const [there] = await gateway.sql(
    node,
    `select id, embedding::text, metadata::text from docs where id = 'a'`,
  );
  expect(there).toEqual(row);
  const after = (await gateway.send('GET', `/v1/conflicts/${id}`)).body as { state: string };
  const records = await gateway.sql<{
    id: string;
    kind: string;
    state: string;
    applied: boolean;
    loser_row: object;
    dot: string;
    state_origin: number;
  }>(
    node,
    `select id, kind, state, applied, loser_row, loser_origin || '.' || loser_counter as dot, state_origin from pgquorum.conflict where key = 'a' order by kind`,
  );
  expect(records).toMatchObject([
    {
      id: replaced,
      kind: 'replaced',
      state: 'superseded',
      applied: false,
      dot: before.version.text,
      loser_row: { id: 'a', embedding: '[1,2,3]', metadata: '{"now": true}' },
    },
    { id, kind: 'update-update', state: 'restored', applied: false, state_origin: node + 1 },
  ]);
  expect(version.text).not.toBe(before.version.text);
  expect(['open', 'restored']).toContain(after.state);
  // What was replaced can be restored in its turn.
  const back = await gateway.send('POST', `/v1/conflicts/${replaced}/restore`);
  expect(back.status).toBe(200);
  expect((await read('a')).body).toMatchObject({ embedding: [1, 2, 3], metadata: { now: true } });
});

test('a losing delete restores as a delete', async () => {
  await write('b', [1, 2, 3]);
  const id = await addRecord({ key: 'b', row: null, counter: 1001 });
  expect(await gateway.send('POST', `/v1/conflicts/${id}/restore`)).toMatchObject({
    status: 200,
    body: { deleted: true },
  });
  expect((await read('b')).status).toBe(404);
});

test('a row comes back over a tombstone', async () => {
  await write('c', [1, 2, 3]);
  await gateway.send('DELETE', `${vectors}/c`);
  const id = await addRecord({ key: 'c', row: { id: 'c', embedding: null, metadata: '{}' }, counter: 1002 });
  expect((await gateway.send('POST', `/v1/conflicts/${id}/restore`)).status).toBe(200);
  expect((await read('c')).body).toMatchObject({ embedding: null, metadata: {} });
});

test('If-Match guards a restore', async () => {
  await write('d', [1, 2, 3]);
  const id = await addRecord({
    key: 'd',
    row: { id: 'd', embedding: '[4,5,6]', metadata: '{}' },
    counter: 1003,
  });
  const { version } = (await read('d')).body as { version: { text: string } };
  expect(
    await gateway.send('POST', `/v1/conflicts/${id}/restore`, { headers: { 'if-match': '"1.999999"' } }),
  ).toMatchObject({ status: 412, body: { code: 'version_mismatch' } });
  expect(
    (await gateway.send('POST', `/v1/conflicts/${id}/restore`, { headers: { 'if-match': 'soon' } })).status,
  ).toBe(400);
  expect((await read('d')).body).toMatchObject({ embedding: [1, 2, 3] });
  expect(
    (
      await gateway.send('POST', `/v1/conflicts/${id}/restore`, {
        headers: { 'if-match': `"${version.text}"` },
      })
    ).status,
  ).toBe(200);
});

test('a row whose column is gone is not restored in part', async () => {
  await write('e', [1, 2, 3]);
  const id = await addRecord({
    key: 'e',
    row: { id: 'e', embedding: '[4,5,6]', metadata: '{}', colour: 'red' },
    counter: 1004,
  });
  expect(await gateway.send('POST', `/v1/conflicts/${id}/restore`)).toMatchObject({
    status: 409,
    body: { code: 'conflict_not_restorable', detail: expect.stringContaining('colour') },
  });
  expect((await read('e')).body).toMatchObject({ embedding: [1, 2, 3] });
});

test('lists are filtered and paged without gaps', async () => {
  for (let at = 0; at < 7; at++)
    await addRecord({
      key: `page-${at}`,
      row: { id: `page-${at}`, embedding: null, metadata: '{}' },
      counter: 2000 + at,
      state: at % 2 === 0 ? 'open' : 'superseded',
    });
  const keys: string[] = [];
  let cursor = '';
  do {
    const page = (await gateway.send('GET', `/v1/conflicts?collection=docs&limit=2${cursor}`)).body as {
      items: { key: string }[];
      nextCursor?: string;
    };
    keys.push(...page.items.map((item) => item.key));
    cursor = page.nextCursor === undefined ? '' : `&cursor=${encodeURIComponent(page.nextCursor)}`;
  } while (cursor !== '');
  expect(keys.filter((key) => key.startsWith('page-')).toSorted()).toEqual(
    Array.from({ length: 7 }, (_, at) => `page-${at}`),
  );
  const all = (await gateway.send('GET', '/v1/conflicts?state=superseded&collection=docs&key=page-1'))
    .body as { items: object[] };
  expect(all.items).toMatchObject([
    {
      key: 'page-1',
      state: 'superseded',
      loser: { version: { text: '2.2001', origin: 'n2', hlc: '5', clock: { 2: '2001' } }, deleted: false },
      winner: { text: '1.7', origin: 'n1' },
      decidedBy: 'lww',
    },
  ]);
  expect(
    ((await gateway.send('GET', '/v1/conflicts?collection=other')).body as { items: object[] }).items,
  ).toEqual([]);
});
