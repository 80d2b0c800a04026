/** Embedding models: what an item names, what its key has, and what becomes of the others of its batch. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;
const vectors = '/v1/collections/docs/vectors';

beforeAll(async () => {
  // One node takes all writes: what is atomic per node is seen in whole batches.
  gateway = await freshGateway({ count: 1 });
  const made = await gateway.send('PUT', '/v1/collections/docs', {
    body: { dimension: 3, conflicts: { models: ['small', 'large', 'huge'] } },
  });
  expect(made.status).toBe(201);
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

interface Result {
  id: string;
  version?: { text: string };
  error?: { code: string; status: number; detail: string };
}

const upsert = async (items: Record<string, string | undefined>, extra: object = {}) => {
  const answer = await gateway.send('POST', vectors, {
    body: {
      vectors: Object.entries(items).map(([id, model]) => ({
        id,
        embedding: [1, 2, 3],
        ...(model === undefined ? {} : { model }),
        ...extra,
      })),
    },
  });
  return { status: answer.status, results: (answer.body as { results: Result[] }).results };
};
const read = async (id: string) =>
  (await gateway.send('GET', `${vectors}/${id}`)).body as {
    model?: string | null;
    metadata: unknown;
    version: { text: string };
  };
const codes = (results: Result[]) => results.map(({ error }) => error?.code ?? 'ok');

test('a version shows the model that its write named; a write without one inherits it', async () => {
  expect((await upsert({ plain: undefined, s: 'small', l: 'large' })).status).toBe(200);
  expect((await read('plain')).model).toBeNull();
  expect((await read('s')).model).toBe('small');
  expect((await read('l')).model).toBe('large');
  await upsert({ l: undefined, s: 'huge' });
  expect((await read('l')).model).toBe('large');
  expect((await read('s')).model).toBe('huge');
  const many = await gateway.send('POST', `${vectors}/get`, { body: { ids: ['plain', 's'] } });
  expect(many.body).toMatchObject({ items: [{ model: null }, { model: 'huge' }] });
});

test('an item whose key has a later model fails alone', async () => {
  await upsert({ b1: 'large', b2: 'small', dead: 'huge' });
  await gateway.send('DELETE', `${vectors}/dead`);
  const before = await read('b1');
  const { status, results } = await upsert(
    { b3: 'small', b1: 'small', b2: 'large', b4: undefined, dead: 'large', b5: 'tiny', b0: 'huge' },
    { metadata: { second: true } },
  );
  expect(status).toBe(200);
  expect(codes(results)).toEqual([
    'ok',
    'model_outdated',
    'ok',
    'ok',
    'model_outdated',
    'model_unknown',
    'ok',
  ]);
  expect(results[1]!.error).toMatchObject({ status: 409, detail: expect.stringMatching(/"large".*"small"/) });
  expect(results[5]!.error).toMatchObject({ status: 400 });
  expect(await read('b1')).toEqual(before);
  for (const [id, model] of [
    ['b3', 'small'],
    ['b2', 'large'],
    ['b4', null],
    ['b0', 'huge'],
  ] as const)
    expect(await read(id)).toMatchObject({ model, metadata: { second: true } });
  expect((await gateway.send('GET', `${vectors}/dead`)).status).toBe(404);
  expect((await upsert({ b1: 'small' })).status).toBe(409);
});

test('the others of a batch are written together or not at all, whatever models they name', async () => {
  await upsert({ c1: 'large' });
  await gateway.sql(0, `alter table docs add constraint no_bad check (id <> 'bad')`);
  const { results } = await upsert({ c0: 'small', c1: 'small', bad: 'huge', c2: undefined });
  expect(codes(results)).toEqual([
    'constraint_violated',
    'constraint_violated',
    'constraint_violated',
    'constraint_violated',
  ]);
  for (const id of ['c0', 'c2']) expect((await gateway.send('GET', `${vectors}/${id}`)).status).toBe(404);
});

test('batches that name models in any order at the same time all end, and the latest model stays', async () => {
  const models = ['small', 'large', 'huge', undefined];
  const rounds = await Promise.all(
    Array.from({ length: 12 }, (_, round) =>
      upsert(
        Object.fromEntries(Array.from({ length: 8 }, (_one, at) => [`r${at}`, models[(round + at) % 4]])),
      ),
    ),
  );
  for (const { results } of rounds)
    for (const { error } of results) if (error !== undefined) expect(error.code).toBe('model_outdated');
  for (let at = 0; at < 8; at++) expect((await read(`r${at}`)).model).toBe('huge');
});

test('a patch may name a model, alone too, and none may lower it', async () => {
  await upsert({ p: 'small' });
  const patch = (body: object) => gateway.send('PATCH', `${vectors}/p`, { body });
  expect((await patch({ model: 'large' })).status).toBe(200);
  expect(await read('p')).toMatchObject({ model: 'large', metadata: {} });
  expect((await patch({ metadata: { n: 1 } })).status).toBe(200);
  const before = await read('p');
  expect(before.model).toBe('large');
  expect(await patch({ embedding: [1, 1, 1], model: 'small' })).toMatchObject({
    status: 409,
    body: { code: 'model_outdated' },
  });
  expect(await patch({ embedding: [1, 1, 1], model: 'tiny' })).toMatchObject({
    status: 400,
    body: { code: 'model_unknown' },
  });
  expect(await read('p')).toEqual(before);
  expect((await patch({ embedding: [1, 1, 1], model: 'huge' })).status).toBe(200);
  expect((await read('p')).model).toBe('huge');
});

test('a repeat under an Idempotency-Key is told what was written, also once a later model is there', async () => {
  const send = () =>
    gateway.send('POST', vectors, {
      body: { vectors: [{ id: 'k', embedding: [1, 2, 3], model: 'small' }] },
      headers: { 'idempotency-key': 'once' },
    });
  const first = (await send()).body as { results: Result[] };
  await upsert({ k: 'large' });
  const again = (await send()).body as { results: Result[] };
  expect(again.results[0]!.version!.text).toBe(first.results[0]!.version!.text);
  expect((await read('k')).model).toBe('large');
});
