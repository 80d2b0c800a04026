/** The OpenAPI document against the gateway that serves it: the routes, what requests may have, and that a wrong answer would be seen. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openApiDocument, routeContracts } from '../../apps/gateway/src/contract/document.ts';
import type { RouteContract } from '../../apps/gateway/src/contract/route.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';
import { exchangeProblem, operationOf } from './openapi/exchange.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await freshGateway({ count: 2 });
  const definition = { dimension: 2, conflicts: { strategy: 'crdt', crdt: { views: 'g-counter' } } };
  await gateway.send('PUT', '/v1/collections/docs', { body: definition });
}, 120_000);
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

test('the document has the routes that are served, and no other', () => {
  const served = gateway.gateway.routes
    .filter(({ method }) => method !== 'HEAD')
    .map(({ method, path }) => `${method.toLowerCase()} ${path.replaceAll(/:(\w+)/g, '{$1}')}`);
  expect(served.length).toBeGreaterThan(30);
  expect(routeContracts.map(({ method, path }) => `${method} ${path}`).toSorted()).toEqual(served.toSorted());
});

test('it is served, refers to nothing that it does not have, and names each operation once', async () => {
  const { status, body } = await gateway.send('GET', '/openapi.json');
  expect(status).toBe(200);
  expect(body).toEqual(JSON.parse(JSON.stringify(openApiDocument())));
  const { components } = body as { components: Record<string, Record<string, unknown>> };
  const references = [...JSON.stringify(body).matchAll(/"\$ref":"#\/components\/(\w+)\/(\w+)"/g)];
  expect(references.length).toBeGreaterThan(50);
  for (const [, kind, name] of references) expect(components[kind!]).toHaveProperty(name!);
  expect(JSON.stringify(body)).not.toContain('$defs');
  const ids = routeContracts.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const { path, params, id } of routeContracts)
    expect([id, Object.keys(params?.shape ?? {})]).toEqual([
      id,
      [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
    ]);
});

/** Ids that nobody has: what is checked is that fields are known, not what comes of the request. */
const parameters: Record<string, string> = {
  name: 'nobody',
  collection: 'docs',
  id: '00000000-0000-4000-8000-000000000000',
  node: 'nobody',
  key: 'a',
  shard: '0',
};
/** Where fields are looked at only once there is something, or a body. */
const special: Record<string, Record<string, string>> = { changeCollection: { name: 'docs' } };
const bodies: Record<string, object> = {
  upsertVectors: { vectors: [] },
  deleteVectors: { ids: [] },
  getVectors: { ids: [] },
};
const pathOf = ({ path, tag, id }: RouteContract): string =>
  path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
    tag === 'dead letters' ? 'n1.1' : (special[id]?.[name] ?? parameters[name]!),
  );
const codeOf = (body: unknown) => (body as { code?: string }).code;
const fieldsOf = (schema: unknown): string[] => Object.keys((schema as { shape?: object })?.shape ?? {});
/** Streams would not end. */
const asked = routeContracts.filter(({ tag }) => tag !== 'streams' && tag !== 'operating');

describe('a field that the document does not have is refused, one that it has is known', () => {
  const cases = asked.flatMap((route) => [
    ...(route.body === undefined ? [] : [{ route, where: 'body' as const, fields: fieldsOf(route.body) }]),
    { route, where: 'query' as const, fields: fieldsOf(route.query) },
  ]);
  test.each(cases.map((one) => ({ ...one, name: `${one.route.id}, ${one.where}` })))(
    '$name',
    async ({ route, where, fields }) => {
      for (const field of [...fields, 'madeUp']) {
        const path = pathOf(route) + (where === 'query' ? `?${field}=x` : '');
        const body =
          where === 'body'
            ? { [field]: null }
            : route.body === undefined
              ? undefined
              : (bodies[route.id] ?? {});
        // Not by the fixture's `send`: nothing is promised about answers to what is not in the document.
        const answer = await fetch(`http://127.0.0.1:${gateway.gateway.httpPort}${path}`, {
          method: route.method.toUpperCase(),
          ...(body === undefined
            ? {}
            : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
        });
        const code = answer.status < 300 ? undefined : codeOf(await answer.json());
        if (field === 'madeUp') expect([route.id, code]).toEqual([route.id, 'unknown_field']);
        else expect([field, code]).not.toEqual([field, 'unknown_field']);
      }
    },
  );
});

describe('what is not as the document says is seen:', () => {
  const job = {
    id: 'a',
    kind: 'verify',
    state: 'done',
    progress: { done: 1, total: null, unit: 'rows' },
    home: 'n1',
    arguments: {},
    createdAt: '2026-01-31T12:00:00.000000Z',
    updatedAt: '2026-01-31T12:00:00.000000Z',
  };
  const good = {
    method: 'GET',
    path: '/v1/jobs/a',
    status: 200,
    contentType: 'application/json; charset=utf-8',
    body: { ...job, more: 1 },
  };
  const write = {
    ...good,
    method: 'POST',
    path: '/v1/collections/docs/vectors',
    sent: { vectors: [{ id: 'a', embedding: [1] }] },
    body: { results: [], consistency: 'one', token: null },
  };

  test('not in what is right', () => {
    expect(exchangeProblem(good)).toBeNull();
    expect(exchangeProblem(write)).toBeNull();
    expect(operationOf('GET', '/v1/conflicts/count')?.operationId).toBe('countConflicts');
  });

  test.each([
    ['a field that is missing', { ...good, body: { ...job, kind: undefined } }, /required/],
    ['a state that is none', { ...good, body: { ...job, state: 'gone' } }, /state/],
    ['a status', { ...good, status: 204 }, /status/],
    ['a content type', { ...good, contentType: 'text/plain' }, /text\/plain/],
    ['a route', { ...good, path: '/v1/nowhere' }, /route/],
    ['a query parameter that was taken', { ...good, path: '/v1/jobs/a?deep=1' }, /deep/],
    ['a field of a body that was taken', { ...write, sent: { vectors: [], ttl: 1 } }, /body was taken/],
    [
      'a problem without a code',
      { ...good, status: 500, contentType: 'application/problem+json', body: {} },
      /code/,
    ],
    ['an error in another form', { ...good, status: 500 }, /json/],
  ])('%s', (_name, exchange, told) => {
    expect(exchangeProblem(exchange)).toMatch(told);
  });
});
