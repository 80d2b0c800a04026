/** Patches of single vectors: the row and its CRDT fields in one transaction, compared, merged and refused under the row's lock. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freshGateway, type Answer, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;
const vectors = '/v1/collections/docs/vectors';
const plain = '/v1/collections/plain/vectors';

beforeAll(async () => {
  gateway = await freshGateway();
  const conflicts = {
    strategy: 'crdt',
    crdt: { views: 'g-counter', stock: 'pn-counter', title: 'lww-register', tags: 'or-set' },
  };
  const made = await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3, conflicts } });
  expect(made.status).toBe(201);
  await gateway.send('PUT', '/v1/collections/plain', { body: { dimension: 3, vectorType: 'halfvec' } });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

interface Result {
  readonly id: string;
  readonly version: { text: string; hlc: string | null; clock: unknown };
  readonly operation?: { origin: string; counter: string };
  readonly coordinator: string;
  readonly acks: string[];
}

const write = async (id: string, item: object = {}, path = vectors): Promise<Result> => {
  const answer = await gateway.send('POST', path, {
    body: { vectors: [{ id, embedding: [1, 2, 3], ...item }] },
  });
  expect(answer.status).toBe(200);
  return (answer.body as { results: Result[] }).results[0]!;
};
const patch = (
  id: string,
  body: unknown,
  options: { headers?: Record<string, string>; query?: string; path?: string } = {},
): Promise<Answer> =>
  gateway.send('PATCH', `${options.path ?? vectors}/${id}${options.query ?? ''}`, {
    body,
    ...(options.headers === undefined ? {} : { headers: options.headers }),
  });
const patched = async (...args: Parameters<typeof patch>): Promise<Result> => {
  const answer = await patch(...args);
  expect(answer.body).toMatchObject({ consistency: 'one' });
  expect(answer.status).toBe(200);
  return answer.body as Result;
};
const read = async (id: string, path = vectors) => {
  const answer = await gateway.send('GET', `${path}/${id}`);
  expect(answer.status).toBe(200);
  return answer.body as { metadata: unknown; embedding: unknown; crdt: object; version: { text: string } };
};

test('row and fields change together, and a patch of fields alone leaves the version as it is', async () => {
  const first = await write('a', { metadata: { title: 'first', deep: { x: 1, y: 2 } } });
  const counted = await patched('a', { crdt: { views: { increment: 2 }, tags: { add: 'red' } } });
  expect(counted.version).toEqual(first.version);
  expect(counted.operation).toEqual({ origin: counted.coordinator, counter: expect.any(String) });
  const answer = await patch('a', {
    metadata: { deep: { x: null, z: [1, { n: null }] }, more: true },
    embedding: [3, 2, 1],
    crdt: {
      views: { increment: 1 },
      stock: { decrement: 4 },
      title: { set: { de: 'Titel' } },
      tags: { add: 7 },
    },
  });
  const both = answer.body as Result;
  expect(both.version.text).not.toBe(first.version.text);
  expect(both.version.text).toBe((await read('a')).version.text);
  expect(answer.headers.get('etag')).toBe(`"${both.version.text}"`);
  expect(both.acks).toEqual([both.coordinator]);
  const stored = {
    metadata: { title: 'first', deep: { y: 2, z: [1, { n: null }] }, more: true },
    embedding: [3, 2, 1],
    crdt: { views: 3, stock: -4, title: { de: 'Titel' }, tags: [7, 'red'] },
  };
  expect(await read('a')).toMatchObject(stored);
  const many = await gateway.send('POST', `${vectors}/get`, { body: { ids: ['a', 'none'] } });
  expect(many.body).toMatchObject({ items: [stored, { error: { code: 'vector_not_found' } }] });
});

test('a collection without fields shows none, and its rows are patched all the same', async () => {
  await write('a', { metadata: { n: 1 } }, plain);
  const result = await patched('a', { metadata: { m: 2 }, embedding: null }, { path: plain });
  expect(result.operation).toBeUndefined();
  const stored = await read('a', plain);
  expect(stored).toMatchObject({ metadata: { n: 1, m: 2 }, embedding: null });
  expect(stored).not.toHaveProperty('crdt');
  expect(stored).not.toHaveProperty('model');
  await patched('a', { embedding: [1, 2, 3] }, { path: plain });
  expect(await read('a', plain)).toMatchObject({ embedding: [1, 2, 3] });
});

test('numbers of any length stay as they are, those that the patch leaves and those that it brings', async () => {
  await gateway.send('POST', plain, {
    raw: '{"vectors":[{"id":"n","embedding":null,"metadata":{"old":12345678901234567891,"gone":1}}]}',
  });
  const answer = await gateway.send('PATCH', `${plain}/n`, {
    raw: '{"metadata":{"new":-98765432109876543210,"in":{"n":1e400},"gone":null}}',
  });
  expect(answer.status).toBe(200);
  const node = gateway.nodes.findIndex(({ name }) => name === (answer.body as Result).coordinator);
  const [row] = await gateway.sql<{ metadata: string }>(
    node,
    `select metadata::text from plain where id = 'n'`,
  );
  expect(row!.metadata).toBe(
    `{"in": {"n": 1${'0'.repeat(400)}}, "new": -98765432109876543210, "old": 12345678901234567891}`,
  );
});

test('a merge patch does what RFC 7386 says', async () => {
  const cases: [target: object, patch: object, result: object][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    [{ a: 1 }, { a: { b: { c: 2, d: null } } }, { a: { b: { c: 2 } } }],
  ];
  for (const [target, change, result] of cases) {
    const [row] = await gateway.sql(0, 'select pgquorum.merge_patch($1, $2) as merged', [
      JSON.stringify(target),
      JSON.stringify(change),
    ]);
    expect([target, change, row!['merged']]).toEqual([target, change, result]);
  }
});

test('patches at the same moment lose nothing of each other', async () => {
  await write('busy', { metadata: { first: true } });
  await Promise.all(
    Array.from({ length: 30 }, (_, at) =>
      patched('busy', { metadata: { [`k${at}`]: at }, crdt: { views: { increment: 1 } } }),
    ),
  );
  const { metadata, crdt } = await read('busy');
  expect(Object.keys(metadata as object)).toHaveLength(31);
  expect(crdt).toMatchObject({ views: 30 });
});

test.each([(text: string) => text, (text: string) => `"${text}"`, (text: string) => `W/"${text}"`])(
  'If-Match compares with the version of the row, and a mismatch names the current one and changes nothing (%#)',
  async (form) => {
    const { version } = await write('cas');
    const body = { metadata: { n: 1 }, crdt: { views: { increment: 1 } } };
    const before = (await read('cas')).crdt;
    const stale = await patch('cas', body, { headers: { 'if-match': form('1.999999') } });
    expect(stale.status).toBe(412);
    expect(stale.body).toMatchObject({ code: 'version_mismatch' });
    expect((stale.body as { detail: string }).detail).toContain(version.text);
    expect(await read('cas')).toMatchObject({ metadata: {}, version: { text: version.text }, crdt: before });
    // Operations do not change the version, so they do not come in the way of who compares it.
    await patched('cas', { crdt: { views: { increment: 1 } } });
    const done = await patched('cas', body, { headers: { 'if-match': form(version.text) } });
    expect(done.version.text).not.toBe(version.text);
    expect((await patch('cas', body, { headers: { 'if-match': form(version.text) } })).status).toBe(412);
  },
);

test('of two patches at once that expect one version, one is done', async () => {
  const { version } = await write('race');
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, at) =>
      patch('race', { metadata: { at } }, { headers: { 'if-match': version.text } }),
    ),
  );
  expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
    200,
    ...Array<number>(7).fill(412),
  ]);
});

test('a repeat under an Idempotency-Key is done once, whatever it consists of', async () => {
  const { version } = await write('key');
  const headers = { 'idempotency-key': 'count', 'if-match': version.text };
  const body = { metadata: { n: 1 }, crdt: { views: { increment: 5 }, tags: { add: 'x' } } };
  const first = await patched('key', body, { headers });
  const again = await patched('key', body, { headers });
  expect(again).toEqual(first);
  await patched('key', { crdt: { tags: { remove: 'x' } } });
  expect(await patched('key', body, { headers })).toEqual(first);
  expect(await read('key')).toMatchObject({ metadata: { n: 1 }, crdt: { views: 5, tags: [] } });

  const only = { 'idempotency-key': 'only operations' };
  const counted = await patched('key', { crdt: { views: { increment: 1 } } }, { headers: only });
  expect(await patched('key', { crdt: { views: { increment: 1 } } }, { headers: only })).toEqual(counted);
  expect(counted.version.text).toBe(first.version.text);
  const atOnce = { 'idempotency-key': 'at once' };
  await Promise.all(
    Array.from({ length: 6 }, () =>
      patched('key', { crdt: { views: { increment: 1 } } }, { headers: atOnce }),
    ),
  );
  expect((await read('key')).crdt).toMatchObject({ views: 7 });

  await write('key2');
  for (const [id, other, ifMatch] of [
    ['key', { crdt: { views: { increment: 2 } } }, null],
    ['key2', { crdt: { views: { increment: 1 } } }, null],
    ['key', { crdt: { views: { increment: 1 } } }, first.version.text],
  ] as const) {
    const reused = await patch(id, other, {
      headers: { ...only, ...(ifMatch === null ? {} : { 'if-match': ifMatch }) },
    });
    expect(reused).toMatchObject({ status: 409, body: { code: 'idempotency_key_reused' } });
  }
});

test('bad patches have codes of their own and change nothing', async () => {
  const { version } = await write('bad', { metadata: { n: 1 } });
  await patched('bad', { crdt: { views: { increment: 9_007_199_254_740_990 } } });
  const before = await read('bad');
  const counter = (operation: unknown) => ({ metadata: { n: 2 }, crdt: { views: operation } });
  const big = { metadata: { big: 'x'.repeat(600_000) } };
  const cases: [body: unknown, status: number, code: string, detail: RegExp][] = [
    [{}, 400, 'invalid_request', /one of metadata, embedding, model, crdt/],
    [[], 400, 'invalid_request', /object/],
    [{ metadta: {} }, 400, 'unknown_field', /metadta/],
    [{ metadata: null }, 400, 'invalid_metadata', /object/],
    [{ metadata: [1] }, 400, 'invalid_metadata', /object/],
    [{ metadata: { a: '\0' } }, 400, 'invalid_metadata', /NUL/],
    [{ embedding: [1, 2] }, 400, 'dimension_mismatch', /2 dimensions/],
    [{ embedding: [1, 2, 1e39] }, 400, 'invalid_vector', /embedding.2/],
    [{ embedding: { base46: '' } }, 400, 'unknown_field', /embedding.base46/],
    [{ metadata: { n: 2 }, model: 'm' }, 400, 'model_unknown', /lists no models/],
    [{ metadata: { n: 2 }, crdt: {} }, 400, 'crdt_bad_value', /names no field/],
    [{ metadata: { n: 2 }, crdt: [] }, 400, 'crdt_bad_value', /object/],
    [{ metadata: { n: 2 }, crdt: { likes: { increment: 1 } } }, 400, 'crdt_unknown_field', /crdt.likes/],
    [counter({ decrement: 1 }), 400, 'crdt_wrong_operation', /crdt.views.*increment/],
    [counter({ increment: 1, set: 1 }), 400, 'crdt_wrong_operation', /crdt.views/],
    [counter(5), 400, 'crdt_wrong_operation', /crdt.views/],
    ...[0, -1, 1.5, '1', null, 2 ** 53].map((amount): (typeof cases)[number] => [
      counter({ increment: amount }),
      400,
      'crdt_bad_value',
      /crdt.views.increment: must be a whole number/,
    ]),
    [counter({ increment: 2 }), 409, 'crdt_overflow', /crdt.views/],
    [{ metadata: { n: 2 }, crdt: { tags: { add: { a: 1 } } } }, 400, 'crdt_bad_value', /crdt.tags.add/],
    [
      { metadata: { n: 2 }, crdt: { title: { set: 'x'.repeat(70_000) } } },
      400,
      'crdt_bad_value',
      /crdt.title/,
    ],
  ];
  for (const [body, status, code, detail] of cases) {
    const answer = await patch('bad', body);
    expect([body, answer.status, answer.body]).toEqual([
      body,
      status,
      expect.objectContaining({ status, code }),
    ]);
    expect((answer.body as { detail: string }).detail).toMatch(detail);
  }
  for (const [headers, status, code] of [
    [{ 'if-match': 'soon' }, 400, 'invalid_request'],
    [{ 'idempotency-key': '' }, 400, 'invalid_request'],
  ] as const)
    expect(await patch('bad', { metadata: { n: 2 } }, { headers })).toMatchObject({ status, body: { code } });
  expect(await patch('none', { metadata: { n: 2 } })).toMatchObject({
    status: 404,
    body: { code: 'vector_not_found' },
  });
  expect(await patch('none', { crdt: { views: { increment: 1 } } })).toMatchObject({ status: 404 });
  expect(await patch('a', { crdt: { views: { increment: 1 } } }, { path: plain })).toMatchObject({
    status: 400,
    body: { code: 'crdt_unknown_field' },
  });
  expect(await read('bad')).toEqual(before);
  expect(before.version.text).toBe(version.text);

  await patched('bad', big);
  const grown = await patch('bad', { metadata: { more: 'x'.repeat(600_000) } });
  expect(grown).toMatchObject({ status: 400, body: { code: 'invalid_metadata' } });
  expect(Object.keys((await read('bad')).metadata as object)).toEqual(['n', 'big']);
  expect(gateway.log.filter((line) => (JSON.parse(line) as { level: number }).level >= 40)).toEqual([]);
});

test('a deleted vector is not patched, and one that comes back begins its fields anew', async () => {
  await write('gone');
  await patched('gone', { crdt: { views: { increment: 3 } } });
  await gateway.send('DELETE', `${vectors}/gone`);
  expect(await patch('gone', { crdt: { views: { increment: 1 } } })).toMatchObject({
    status: 404,
    body: { code: 'vector_not_found' },
  });
  await write('gone');
  expect((await read('gone')).crdt).toEqual({ views: 0, stock: 0, title: null, tags: [] });
});

test('a row without a version takes no operation alone, and one with a write beside it', async () => {
  for (const node of [0, 1, 2])
    await gateway.sql(node, `set pgquorum.apply = 'on'; insert into docs values ('bare', '[1,2,3]')`);
  expect(await patch('bare', { crdt: { views: { increment: 1 } } })).toMatchObject({
    status: 409,
    body: { code: 'version_missing' },
  });
  expect(await patch('bare', { metadata: { n: 1 } }, { headers: { 'if-match': '1.1' } })).toMatchObject({
    status: 412,
  });
  await patched('bare', { metadata: { n: 1 }, crdt: { views: { increment: 1 } } });
  expect(await read('bare')).toMatchObject({ metadata: { n: 1 }, crdt: { views: 1 } });
});

test('what a trigger of the table refuses or swallows is refused as a whole', async () => {
  for (const [id, action] of [
    ['refused', `raise exception 'no'`],
    ['swallowed', 'return null'],
  ] as const) {
    await write(id);
    for (const node of [0, 1, 2])
      await gateway.sql(
        node,
        `create function public.keep_${id}() returns trigger language plpgsql as $$ begin ${action}; end $$;
         create trigger keep_${id} before update on docs for each row when (old.id = '${id}') execute function public.keep_${id}()`,
      );
    expect(await patch(id, { metadata: { n: 1 }, crdt: { views: { increment: 1 } } })).toMatchObject({
      status: 409,
      body: { code: 'constraint_violated' },
    });
    expect(await read(id)).toMatchObject({ metadata: {}, crdt: { views: 0 } });
  }
});
