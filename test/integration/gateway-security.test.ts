/** Who may call, and from where. */
import { request } from 'node:http';
import { expect, test } from '@jest/globals';
import { createLogger } from '#core/observability/logger.process.ts';
import { createGateway } from '../../apps/gateway/src/gateway.ts';
import { freshGateway, settingsFor } from './gateway-fixture.ts';

const guarded: [method: string, path: string][] = [
  ['GET', '/v1/collections'],
  ['PUT', '/v1/collections/x'],
  ['POST', '/v1/collections/x/vectors'],
  ['POST', '/v1/collections/x/search'],
  ['GET', '/v1/conflicts'],
  ['POST', '/v1/conflicts/00000000-0000-0000-0000-000000000000/restore'],
  ['GET', '/v1/cluster/nodes'],
  ['GET', '/v1/replication/lag'],
  ['GET', '/v1/overview'],
  ['GET', '/metrics'],
  ['GET', '/nothing'],
];

test('with keys everything but health and the empty page needs one', async () => {
  await using gateway = await freshGateway({
    count: 1,
    env: { PGQUORUM_API_KEYS: 'first-key,second-key', PGQUORUM_HOST: '0.0.0.0' },
  });
  for (const [method, path] of guarded) {
    for (const headers of [
      {},
      { authorization: 'Bearer wrong' },
      { 'x-api-key': 'first-ke' },
      { authorization: 'Basic first-key' },
    ]) {
      const answer = await gateway.send(method, path, { headers: headers as Record<string, string> });
      expect([path, answer.status, (answer.body as { code: string }).code]).toEqual([
        path,
        401,
        'unauthenticated',
      ]);
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    }
  }
  for (const path of ['/healthz', '/']) expect((await gateway.send('GET', path)).status).toBe(200);
  expect([200, 503]).toContain((await gateway.send('GET', '/readyz')).status);
  expect(
    (await gateway.send('GET', '/v1/collections', { headers: { authorization: 'Bearer second-key' } }))
      .status,
  ).toBe(200);
  expect(
    (await gateway.send('GET', '/v1/collections', { headers: { 'x-api-key': 'first-key' } })).status,
  ).toBe(200);
  expect(gateway.log.join('')).not.toMatch(/first-key|second-key/);
}, 120_000);

test('two users with one idempotency key do not meet', async () => {
  await using gateway = await freshGateway({ count: 1, env: { PGQUORUM_API_KEYS: 'alice,bob' } });
  const as = (user: string) => ({ authorization: `Bearer ${user}`, 'idempotency-key': 'same' });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 1 }, headers: as('alice') });
  const write = (user: string, value: number) =>
    gateway.send('POST', '/v1/collections/docs/vectors', {
      body: { vectors: [{ id: 'a', embedding: [value] }] },
      headers: as(user),
    });
  expect((await write('alice', 1)).status).toBe(200);
  expect((await write('bob', 2)).status).toBe(200);
  expect((await write('alice', 3)).status).toBe(409);
}, 120_000);

test('without keys only loopback is bound', async () => {
  const nodes = [{ name: 'n1', zone: 'z', url: 'postgres://nobody@127.0.0.1:1/none' }];
  const logger = createLogger({ app: 'test', level: 'silent' });
  for (const host of ['0.0.0.0', '::', '10.1.2.3', 'example.org', '127.0.0.1.example.org']) {
    await expect(
      createGateway(settingsFor(nodes, 'x', { PGQUORUM_HOST: host }), logger),
    ).rejects.toMatchObject({
      code: 'settings_invalid',
      detail: expect.stringContaining('PGQUORUM_API_KEYS'),
    });
  }
});

function statusOf(port: number, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path: '/v1/collections', headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    sent.on('error', reject).end();
  });
}

test("without keys a foreign page can not call through the user's browser", async () => {
  await using gateway = await freshGateway({ count: 1 });
  const port = gateway.gateway.httpPort;
  expect(await statusOf(port, { host: `localhost:${port}` })).toBe(200);
  expect(await statusOf(port, { host: `127.0.0.1:${port}`, origin: `http://127.0.0.1:${port}` })).toBe(200);
  expect(await statusOf(port, { host: 'rebound.example.org' })).toBe(403);
  expect(await statusOf(port, { host: `127.0.0.1:${port}`, origin: 'https://example.org' })).toBe(403);
  expect(await statusOf(port, { host: `127.0.0.1:${port}`, origin: 'null' })).toBe(403);
}, 120_000);

test('the page allows nothing but its own script, style and calls', async () => {
  await using gateway = await freshGateway({ count: 1 });
  const page = await gateway.send('GET', '/');
  const policy = page.headers.get('content-security-policy') ?? '';
  expect(policy).toMatch(/default-src 'none'/);
  expect(policy).toMatch(/script-src 'sha256-[^']+'(;|$)/);
  expect(policy).not.toMatch(/unsafe|\*|https?:/);
  expect(page.body as string).not.toMatch(
    /(src|href)\s*=|https?:\/\/(?!www\.w3\.org\/2000\/svg)| style=| on\w+=/,
  );
}, 120_000);

test('what the database says about rows or its address never reaches a caller', async () => {
  await using gateway = await freshGateway({ count: 1 });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 1 } });
  await gateway.sql(0, 'alter table docs add column needed int not null');
  const answer = await gateway.send('POST', '/v1/collections/docs/vectors', {
    body: { vectors: [{ id: 'a', embedding: [1], metadata: { card: '4711' } }] },
  });
  expect(answer).toMatchObject({ status: 409, body: { code: 'constraint_violated' } });
  expect(JSON.stringify(answer.body) + gateway.log.join('')).not.toMatch(/4711|postgres:\/\//);
}, 120_000);
