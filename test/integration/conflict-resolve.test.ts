/** Resolving by a call, and what readers see of open conflicts until then. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import pg from 'pg';
import { addRecord } from './conflict-records.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;
const vectors = '/v1/collections/docs/vectors';

beforeAll(async () => {
  gateway = await freshGateway();
  await gateway.send('PUT', '/v1/collections/docs', {
    body: { dimension: 3, conflicts: { strategy: 'vector-clock' } },
  });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

interface Written {
  readonly coordinator: string;
  readonly version: { readonly text: string; readonly clock: Readonly<Record<string, string>> };
}

async function write(id: string): Promise<Written> {
  const answer = await gateway.send('POST', vectors, {
    body: { vectors: [{ id, embedding: [1, 2, 3], metadata: { won: true } }] },
  });
  return (answer.body as { results: Written[] }).results[0]!;
}

const lost = (id: string) => ({ id, embedding: '[7,8,9]', metadata: '{"lost": 12345678901234567890}' });
const resolve = (id: string, body?: object, headers: Record<string, string> = {}) =>
  gateway.send('POST', `/v1/conflicts/${id}/resolve`, { ...(body === undefined ? {} : { body }), headers });
const read = (id: string) => gateway.send('GET', `${vectors}/${id}?include=siblings`);
const place = ({ coordinator }: Written) => gateway.nodes.findIndex((node) => node.name === coordinator);

test('a resolve writes what is named, leaves the rest, and closes every open conflict of the key', async () => {
  const written = await write('a');
  const ids = [
    await addRecord(gateway, { key: 'a', row: lost('a'), counter: 1000 }),
    await addRecord(gateway, { key: 'a', row: null, origin: 3, counter: 1001, kind: 'update-delete' }),
  ];
  const answer = await resolve(ids[0]!, { metadata: { both: 1 } });
  expect(answer).toMatchObject({
    status: 200,
    body: {
      id: ids[0],
      collection: 'docs',
      key: 'a',
      deleted: false,
      coordinator: written.coordinator,
      acks: [written.coordinator],
      version: { clock: { 3: '1001' } },
    },
  });
  const { version, resolved } = answer.body as Written & { resolved: string[] };
  expect(Number(version.clock['2'])).toBeGreaterThanOrEqual(1000);
  expect(resolved.toSorted()).toEqual(ids.toSorted());
  expect(version.text).not.toBe(written.version.text);
  const after = await read('a');
  expect(after.body).toMatchObject({ embedding: [1, 2, 3], metadata: { both: 1 }, version, siblings: [] });
  const records = await gateway.sql(
    place(written),
    `select state, decided_by, reason, applied from pgquorum.conflict where key = 'a'`,
  );
  const closed = { state: 'resolved', decided_by: 'user', reason: 'resolved by a call', applied: false };
  expect(records).toEqual([closed, closed]);
});

test('a resolve that names nothing is a new version all the same', async () => {
  const written = await write('b');
  const id = await addRecord(gateway, { key: 'b', row: lost('b'), counter: 1002 });
  const { version } = (await resolve(id)).body as Written;
  expect(version.text).not.toBe(written.version.text);
  expect((await read('b')).body).toMatchObject({
    embedding: [1, 2, 3],
    metadata: { won: true },
    siblings: [],
  });
});

test('over a tombstone the losing row serves for what is not named', async () => {
  await write('c');
  await gateway.send('DELETE', `${vectors}/c`);
  const id = await addRecord(gateway, { key: 'c', row: lost('c'), counter: 1003 });
  expect((await resolve(id, { metadata: { back: 1 } })).status).toBe(200);
  expect((await read('c')).body).toMatchObject({ embedding: [7, 8, 9], metadata: { back: 1 } });
});

test('where winner and loser are deletes an embedding is needed', async () => {
  await write('d');
  await gateway.send('DELETE', `${vectors}/d`);
  const id = await addRecord(gateway, { key: 'd', row: null, counter: 1004, kind: 'delete-delete' });
  expect(await resolve(id, { metadata: { back: 1 } })).toMatchObject({
    status: 409,
    body: { code: 'conflict_not_resolvable' },
  });
  expect((await resolve(id, { embedding: [4, 5, 6] })).status).toBe(200);
  expect((await read('d')).body).toMatchObject({ embedding: [4, 5, 6], metadata: {} });
});

test('a resolve can decide that the key is deleted', async () => {
  const written = await write('e');
  const id = await addRecord(gateway, { key: 'e', row: lost('e'), counter: 1005 });
  expect(await resolve(id, { deleted: true })).toMatchObject({ status: 200, body: { deleted: true } });
  expect((await read('e')).status).toBe(404);
  // And that it stays so.
  const again = await addRecord(gateway, { key: 'e', row: lost('e'), counter: 1006 });
  expect(await resolve(again, { deleted: true })).toMatchObject({ status: 200, body: { deleted: true } });
  expect(
    await gateway.sql(place(written), `select distinct state from pgquorum.conflict where key = 'e'`),
  ).toEqual([{ state: 'resolved' }]);
});

test('If-Match guards a resolve, and the refusal names the version that stands', async () => {
  const { version } = await write('f');
  const id = await addRecord(gateway, { key: 'f', row: lost('f'), counter: 1007 });
  const refused = await resolve(id, { metadata: { both: 1 } }, { 'if-match': '"1.999999"' });
  expect(refused).toMatchObject({ status: 412, body: { code: 'version_mismatch' } });
  expect((refused.body as { detail: string }).detail).toContain(version.text);
  expect((await read('f')).body).toMatchObject({ metadata: { won: true }, siblings: [{ conflictId: id }] });
  expect((await resolve(id, { metadata: { both: 1 } }, { 'if-match': `"${version.text}"` })).status).toBe(
    200,
  );
});

test.each([
  ['an unknown field', { colour: 'red' }, 400, 'unknown_field'],
  ['an embedding of another dimension', { embedding: [1, 2] }, 400, 'dimension_mismatch'],
  ['an embedding that is none', { embedding: 'x' }, 400, 'invalid_vector'],
  ['metadata that are no object', { metadata: [1] }, 400, 'invalid_metadata'],
  ['a deleted row with metadata', { deleted: true, metadata: {} }, 400, 'invalid_request'],
  ['a body that is no object', [1], 400, 'invalid_request'],
])('a resolve with %s is refused and changes nothing', async (_what, body, status, code) => {
  const key = `bad-${code}-${JSON.stringify(body)}`;
  const written = await write(key);
  const id = await addRecord(gateway, { key, row: lost(key), counter: 1100 });
  const answer = await resolve(id, body);
  expect(answer.body).toMatchObject({ code });
  expect(answer.status).toBe(status);
  expect((await read(encodeURIComponent(key))).body).toMatchObject({
    version: { text: written.version.text },
    siblings: [{ conflictId: id }],
  });
});

test('a conflict that nobody has is not found', async () => {
  expect(await resolve('00000000-0000-4000-8000-000000000000')).toMatchObject({
    status: 404,
    body: { code: 'conflict_not_found' },
  });
});

test('a resolve gives way to a user who writes the same key, and is done after', async () => {
  const written = await write('g');
  const id = await addRecord(gateway, { key: 'g', row: lost('g'), counter: 1008 });
  const user = new pg.Client(gateway.nodes[place(written)]!.url);
  await user.connect();
  try {
    await user.query('begin');
    await user.query(`update docs set metadata = '{"user": 1}' where id = 'g'`);
    const resolving = resolve(id, { embedding: [4, 5, 6] });
    await new Promise((done) => setTimeout(done, 600)); // longer than the resolve waits for a lock
    await user.query('commit');
    expect((await resolving).status).toBe(200);
    expect((await read('g')).body).toMatchObject({ embedding: [4, 5, 6], metadata: { user: 1 } });
  } finally {
    await user.end();
  }
});

test('siblings are the open conflicts of the key with their rows, deletes among them', async () => {
  await write('h');
  const first = await addRecord(gateway, { key: 'h', row: lost('h'), counter: 1009 });
  const second = await addRecord(gateway, { key: 'h', row: null, origin: 3, counter: 1010 });
  await addRecord(gateway, { key: 'h', row: lost('h'), counter: 1011, state: 'superseded' });
  const siblings = [
    {
      conflictId: first,
      embedding: [7, 8, 9],
      metadata: { lost: expect.anything() },
      version: { text: '2.1009', origin: 'n2', counter: '1009', hlc: '5', clock: { 2: '1009' } },
    },
    {
      conflictId: second,
      embedding: null,
      metadata: null,
      version: { text: '3.1010', origin: 'n3', counter: '1010', hlc: '5', clock: { 3: '1010' } },
      deleted: true,
    },
  ];
  expect(((await read('h')).body as { siblings: object[] }).siblings).toEqual(siblings);
  await write('alone');
  const many = await gateway.send('POST', `${vectors}/get?include=siblings`, {
    body: { ids: ['h', 'alone'] },
  });
  expect(many.body).toMatchObject({
    items: [
      { id: 'h', siblings },
      { id: 'alone', siblings: [] },
    ],
  });
  expect((await gateway.send('GET', `${vectors}/h`)).body).not.toHaveProperty('siblings');
  expect(await gateway.send('GET', `${vectors}/h?include=children`)).toMatchObject({
    status: 400,
    body: { code: 'invalid_request' },
  });
});

test('a plain write on top leaves siblings open', async () => {
  await write('i');
  const id = await addRecord(gateway, { key: 'i', row: lost('i'), counter: 1012 });
  await write('i');
  expect((await read('i')).body).toMatchObject({ siblings: [{ conflictId: id }] });
});
