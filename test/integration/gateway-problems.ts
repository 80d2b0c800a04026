/** Bad input: each case gets its own status and code, in one form, and nothing is written. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freshGateway, type Send, type TestGateway } from './gateway-fixture.ts';

export const vectors = '/v1/collections/docs/vectors';
export const good = { id: 'a', embedding: [1, 2, 3] };
export const one = (item: object): Send => ({ body: { vectors: [item] } });

export type ProblemCase = [
  name: string,
  method: string,
  path: string,
  send: Send,
  status: number,
  code: string,
  detail?: RegExp,
];

/** Declares a test for each case, against one gateway with the collection `docs` of three dimensions. */
export function testProblems(cases: readonly ProblemCase[]): void {
  let gateway: TestGateway;

  beforeAll(async () => {
    gateway = await freshGateway({
      env: { PGQUORUM_BODY_BYTES_MAX: '20000', PGQUORUM_BATCH_ITEMS_MAX: '20' },
    });
    const made = await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
    expect(made.status).toBe(201);
  }, 120_000);

  afterAll(async () => {
    await gateway[Symbol.asyncDispose]();
  });

  test.each(cases.map(([name, ...rest]) => [name, rest] as const))(
    '%s',
    async (_name, [method, path, send, status, code, detail]) => {
      const answer = await gateway.send(method, path, send);
      expect(answer.body).toMatchObject({ status, code });
      expect(answer.status).toBe(status);
      expect(answer.headers.get('content-type')).toBe('application/problem+json');
      const body = answer.body as Record<string, string>;
      expect(body['requestId']).toBe(answer.headers.get('x-request-id'));
      for (const field of ['type', 'title', 'hint']) expect(body[field]).toEqual(expect.any(String));
      if (detail) expect(body['detail']).toMatch(detail);
      expect(JSON.stringify(body)).not.toMatch(/node_modules|\.ts:|\bat \//);
    },
  );

  test('none of it has written anything, and none is reported as a failure of ours', async () => {
    for (const node of [0, 1, 2]) expect(await gateway.sql(node, 'select id from docs')).toEqual([]);
    expect((await gateway.send('GET', '/v1/collections')).body).toMatchObject({ items: [{ name: 'docs' }] });
    expect(gateway.log.filter((line) => (JSON.parse(line) as { level: number }).level >= 40)).toEqual([]);
  });
}
