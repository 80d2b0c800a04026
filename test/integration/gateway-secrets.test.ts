/** Secrets are planted everywhere a gateway is given some, and are then looked for in everything that it says. */
import { createHash } from 'node:crypto';
import grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { SignJWT } from 'jose';
import { loadSettings } from '#core/config/settings.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { createGateway } from '../../apps/gateway/src/gateway.ts';
import { freshGateway, settingsFor, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

const planted = (name: string): string => `planted-${name}-4c1f9e7a5b3d2f60`;
const plain = planted('plain');
const hashedKey = planted('hashed');
const jwtSecret = planted('jwt-secret-of-more-than-32-characters');
const url = `postgres://${planted('user')}:${planted('password')}@127.0.0.1:1/${planted('database')}`;

let gateway: TestGateway;
let token: string;
/** All that was answered. */
const said: string[] = [];

beforeAll(async () => {
  gateway = await freshGateway({
    count: 1,
    env: {
      PGQUORUM_API_KEYS: `${plain},hashed=sha256:${createHash('sha256').update(hashedKey).digest('hex')}`,
      PGQUORUM_JWT_SECRET: jwtSecret,
    },
  });
  token = await new SignJWT({ sub: 'alice', pgquorum: '*' })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(jwtSecret));
}, 120_000);
afterAll(async () => gateway[Symbol.asyncDispose]());

async function http(
  method: string,
  path: string,
  options: { body?: unknown; raw?: string; as?: string } = {},
) {
  const { as = plain, ...send } = options;
  const answer = await gateway.send(method, path, { ...send, headers: { authorization: `Bearer ${as}` } });
  said.push(JSON.stringify([answer.body, [...answer.headers]]));
  return answer.status;
}

async function call(service: string, method: string, request: object, as = plain): Promise<number> {
  using client = new GrpcClient(gateway.gateway.grpcPort, as);
  return await client.call(service, method, request).then(
    (answer) => {
      said.push(JSON.stringify(answer));
      return grpc.status.OK;
    },
    (error: grpc.ServiceError) => {
      said.push(error.message, error.details, JSON.stringify(error.metadata.getMap()));
      said.push(String(error.metadata.get('grpc-status-details-bin')[0]));
      return error.code;
    },
  );
}

const secretsIn = (texts: readonly string[]): string[] =>
  [/planted-[a-z0-9-]{0,40}/, /4c1f9e7a5b3d2f60/, new RegExp(token.split('.')[2]!)].flatMap((secret) =>
    texts.flatMap((text) => secret.exec(text)?.[0] ?? []),
  );

test('the search sees what is there', () => {
  expect(secretsIn(['nothing', `x ${plain} x`])).toHaveLength(2);
  expect(secretsIn([`Bearer ${token}`])).toHaveLength(1);
});

test('nothing that a gateway answers, logs or counts holds a secret', async () => {
  const row = { metadata: { card: planted('row') } };
  for (const as of [plain, hashedKey, token]) expect(await http('GET', '/v1/collections', { as })).toBe(200);
  for (const as of [`${plain}x`, `${token}x`, planted('wrong'), `${token.slice(0, -5)}AAAAA`])
    expect([await http('GET', '/v1/collections', { as }), await call('Collections', 'List', {}, as)]).toEqual(
      [401, grpc.status.UNAUTHENTICATED],
    );
  await http('PUT', '/v1/collections/docs', { body: { dimension: 1 } });
  await gateway.sql(0, 'alter table docs add column needed int not null');
  // Rows that the table refuses, bodies that can not be read, and a master that does not answer.
  const vectors = [{ id: 'a', embedding: [1], ...row }];
  expect(await http('POST', '/v1/collections/docs/vectors?consistency=one', { body: { vectors } })).toBe(409);
  await call('Vectors', 'Upsert', {
    collection: 'docs',
    vectors: [{ id: 'a', embedding: { values: [1] }, metadataJson: JSON.stringify(row.metadata) }],
    options: { consistency: 'one' },
  });
  expect(await http('POST', '/v1/collections/docs/vectors', { raw: `{"vectors": "${planted('raw')}` })).toBe(
    400,
  );
  expect(await http('POST', '/v1/collections/docs/vectors', { body: { vectors: planted('raw') } })).toBe(400);
  await http('POST', '/v1/collections/docs/search', {
    body: { embedding: [1], filter: { card: planted('row') } },
  });
  await http('POST', '/v1/replication/replicas', { body: { name: 'n9', url, zone: 'z' } });
  await http('POST', '/v1/replication/replicas', { body: { name: 'n8', url: `${url} `, zone: 'z' } });
  await call('Replication', 'AddReplica', { name: 'n7', url, zone: 'z' });
  await call('Cluster', 'ListJobs', {});
  for (const path of [
    '/v1/jobs',
    '/v1/cluster/nodes',
    '/v1/cluster/health',
    '/v1/overview',
    '/v1/dead-letters',
    '/metrics',
    '/readyz',
    '/openapi.json',
    '/',
  ])
    await http('GET', path, { as: token });
  expect(said.length).toBeGreaterThan(20);
  expect(said.join('')).toContain('replica');
  expect(gateway.log.join('')).toMatch(/"audit":true/);
  expect(secretsIn([...said, ...gateway.log])).toEqual([]);
});

test('a start that fails does not tell them either', async () => {
  const log: string[] = [];
  const logger = createLogger({ app: 'test', level: 'trace', write: (line) => log.push(line) });
  const failed = async (make: () => unknown): Promise<void> => {
    try {
      await make();
    } catch (cause) {
      logger.error({ err: cause }, 'failed');
      said.push(String(cause), (cause as Error).stack ?? '');
    }
  };
  const before = log.length;
  await failed(() => createGateway(settingsFor([{ name: 'n1', zone: 'z', url }], 'x'), logger));
  for (const env of [
    { PGQUORUM_API_KEYS: `${planted('a')},,` },
    { PGQUORUM_API_KEYS: `x=sha256:${planted('digest')}` },
    { PGQUORUM_API_KEYS: `${planted('a')},${planted('a')}` },
    { PGQUORUM_JWT_SECRET: 'planted-short' },
    { PGQUORUM_NODES: `[{"name":"n1","url":"http://${planted('url')}"}]` },
    { PGQUORUM_KAFKA_SASL_PASSWORD: planted('kafka'), PGQUORUM_HTTP_PORT: 'x' },
  ] as Record<string, string>[])
    await failed(() => loadSettings(env));
  expect(log.length - before).toBeGreaterThanOrEqual(7);
  expect(secretsIn([...said, ...log])).toEqual([]);
});
