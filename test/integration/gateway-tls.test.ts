/** TLS and client certificates, for HTTP and gRPC. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import pg from 'pg';
import { createLogger } from '#core/observability/logger.process.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { createGateway } from '../../apps/gateway/src/gateway.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

const folder = mkdtempSync(join(tmpdir(), 'pgquorum-tls-'));
const file = (name: string): string => join(folder, name);
const pem = (name: string): Buffer => readFileSync(file(name));
const openssl = (...args: string[]): void =>
  void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];

function makeAuthority(name: string): void {
  openssl('req', '-x509', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.crt`, '-subj', `/CN=${name}`);
}

function makeCertificate(name: string, authority: string): void {
  writeFileSync(file('san'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
  const signer = ['-CA', `${authority}.crt`, '-CAkey', `${authority}.key`, '-CAcreateserial'];
  openssl(
    'x509',
    '-req',
    '-in',
    `${name}.csr`,
    ...signer,
    '-days',
    '2',
    '-extfile',
    'san',
    '-out',
    `${name}.crt`,
  );
}

interface Shown {
  readonly cert?: string;
  readonly key?: string | null;
  readonly body?: object;
}

function send(port: number, method: string, path: string, { cert, key = 'the-key', body }: Shown = {}) {
  return new Promise<{ status: number; code: string }>((resolve, reject) => {
    const sent = request(
      {
        host: 'localhost',
        port,
        path,
        method,
        ca: pem('ca.crt'),
        agent: false,
        ...(cert === undefined ? {} : { cert: pem(`${cert}.crt`), key: pem(`${cert}.key`) }),
        headers: { 'content-type': 'application/json', ...(key === null ? {} : { 'x-api-key': key }) },
      },
      (answer) => {
        let text = '';
        answer.on('data', (chunk: Buffer) => (text += chunk.toString()));
        answer.on('end', () =>
          resolve({
            status: answer.statusCode ?? 0,
            code: text.startsWith('{') ? ((JSON.parse(text) as { code?: string }).code ?? 'ok') : 'ok',
          }),
        );
      },
    );
    sent.on('error', reject).end(body === undefined ? undefined : JSON.stringify(body));
  });
}

const secure = (cert?: string): grpc.ChannelCredentials =>
  cert === undefined
    ? grpc.credentials.createSsl(pem('ca.crt'))
    : grpc.credentials.createSsl(pem('ca.crt'), pem(`${cert}.key`), pem(`${cert}.crt`));

/** Null when the call was answered, else the status. */
async function call(port: number, credentials: grpc.ChannelCredentials): Promise<number | null> {
  using client = new GrpcClient(port, 'the-key', credentials);
  // Awaited here, or the client would be closed before.
  return await client.call('Collections', 'List', {}).then(
    () => null,
    ({ code }: { code: number }) => code,
  );
}

let nodes: Awaited<ReturnType<typeof freshNodes>>;
const tls = (): Record<string, string> => ({
  PGQUORUM_API_KEYS: 'the-key',
  PGQUORUM_TLS_CERT_FILE: file('server.crt'),
  PGQUORUM_TLS_KEY_FILE: file('server.key'),
});

beforeAll(async () => {
  for (const name of ['ca', 'clients', 'foreign']) makeAuthority(name);
  makeCertificate('server', 'ca');
  makeCertificate('client', 'clients');
  makeCertificate('stranger', 'foreign');
  nodes = await freshNodes({ count: 1 });
}, 120_000);
afterAll(async () => {
  await nodes[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

describe('with a certificate', () => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ nodes: nodes.nodes, cluster: nodes.cluster, env: tls() });
  }, 60_000);
  afterAll(async () => gateway[Symbol.asyncDispose]());

  test('HTTP and gRPC speak TLS, and nothing else', async () => {
    const { httpPort, grpcPort } = gateway.gateway;
    expect(await send(httpPort, 'GET', '/v1/collections')).toEqual({ status: 200, code: 'ok' });
    expect(await send(httpPort, 'GET', '/v1/collections', { key: null })).toMatchObject({ status: 401 });
    await expect(fetch(`http://127.0.0.1:${httpPort}/healthz`)).rejects.toThrow();
    expect(await call(grpcPort, secure())).toBeNull();
    expect(await call(grpcPort, grpc.credentials.createInsecure())).toBe(grpc.status.UNAVAILABLE);
  });
});

describe('with an authority of clients', () => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({
      nodes: nodes.nodes,
      cluster: nodes.cluster,
      env: { ...tls(), PGQUORUM_TLS_CLIENT_CA_FILE: file('clients.crt') },
    });
  }, 60_000);
  afterAll(async () => gateway[Symbol.asyncDispose]());

  test('every call needs a certificate of its, and a key as well', async () => {
    const { httpPort, grpcPort } = gateway.gateway;
    const refused = { status: 401, code: 'unauthenticated' };
    const path = '/v1/collections';
    expect(await send(httpPort, 'GET', path, { cert: 'client' })).toEqual({ status: 200, code: 'ok' });
    expect(await send(httpPort, 'GET', path, { cert: 'client', key: null })).toEqual(refused);
    expect(await send(httpPort, 'GET', path)).toEqual(refused);
    expect(await send(httpPort, 'GET', path, { cert: 'stranger' })).toEqual(refused);
    expect(await send(httpPort, 'GET', '/nothing')).toEqual(refused);
    expect(await call(grpcPort, secure('client'))).toBeNull();
    expect(await call(grpcPort, secure('stranger'))).toBe(grpc.status.UNAVAILABLE);
    expect(await call(grpcPort, secure())).toBe(grpc.status.UNAVAILABLE);
  });

  test('health can be asked without one', async () => {
    expect(await send(gateway.gateway.httpPort, 'GET', '/healthz', { key: null })).toEqual({
      status: 200,
      code: 'ok',
    });
  });

  test('a resumed session is worth no more than what was shown at its beginning', async () => {
    const statusOver = async (socket: TLSSocket): Promise<string> => {
      socket.write(
        'GET /v1/collections HTTP/1.1\r\nhost: localhost\r\nx-api-key: the-key\r\nconnection: close\r\n\r\n',
      );
      let text = '';
      for await (const chunk of socket) text += String(chunk);
      return text.slice(9, 12);
    };
    const open = async (options: object): Promise<TLSSocket> => {
      const socket = connect({
        port: gateway.gateway.httpPort,
        host: 'localhost',
        servername: 'localhost',
        ca: pem('ca.crt'),
        ...options,
      });
      await new Promise((resolve) => socket.once('secureConnect', resolve));
      return socket;
    };
    for (const [shown, status] of [
      [{}, '401'],
      [{ cert: pem('stranger.crt'), key: pem('stranger.key') }, '401'],
      [{ cert: pem('client.crt'), key: pem('client.key') }, '200'],
    ] as const) {
      const first = await open(shown);
      const ticket = new Promise<Buffer>((resolve) => first.once('session', resolve));
      expect(await statusOver(first)).toBe(status);
      const again = await open({ session: await ticket });
      expect(again.isSessionReused()).toBe(true);
      expect(await statusOver(again)).toBe(status);
    }
  });
});

test('a request that runs over TLS is answered when the gateway closes', async () => {
  const gateway = await startGateway({ nodes: nodes.nodes, cluster: nodes.cluster, env: tls() });
  const { httpPort } = gateway.gateway;
  const blocker = new pg.Client(nodes.nodes[0]!.url);
  await blocker.connect();
  try {
    await send(httpPort, 'PUT', '/v1/collections/slow', { body: { dimension: 1 } });
    await blocker.query('begin; lock table slow in access exclusive mode');
    const body = { vectors: [{ id: 'a', embedding: [1] }] };
    const written = send(httpPort, 'POST', '/v1/collections/slow/vectors?consistency=one', { body });
    await eventually('the write waits', async () => {
      const waiting = await blocker.query('select 1 from pg_locks where not granted');
      return waiting.rowCount! > 0;
    });
    const closed = gateway.gateway.close();
    await blocker.query('commit');
    expect(await written).toEqual({ status: 200, code: 'ok' });
    await closed;
  } finally {
    await blocker.end();
    await gateway.gateway.close();
  }
}, 60_000);

test('files that do not fit are mistakes of the settings, and are not shown', async () => {
  const logger = createLogger({ app: 'test', level: 'silent' });
  const start = (env: Record<string, string>) =>
    createGateway(
      settingsFor([{ name: 'n1', zone: 'z', url: 'postgres://nobody@127.0.0.1:1/none' }], 'x', env),
      logger,
    );
  writeFileSync(file('empty.crt'), 'planted\n');
  const mistakes: Record<string, string>[] = [
    { PGQUORUM_TLS_CERT_FILE: file('server.crt') },
    { PGQUORUM_TLS_CLIENT_CA_FILE: file('clients.crt') },
    { PGQUORUM_TLS_CERT_FILE: file('server.crt'), PGQUORUM_TLS_KEY_FILE: file('client.key') },
    { PGQUORUM_TLS_CERT_FILE: file('none.crt'), PGQUORUM_TLS_KEY_FILE: file('server.key') },
    { ...tls(), PGQUORUM_TLS_CLIENT_CA_FILE: file('empty.crt') },
  ];
  for (const env of mistakes)
    await expect(start(env)).rejects.toMatchObject({
      code: 'settings_invalid',
      detail: expect.stringMatching(/^(?!.*planted)PGQUORUM_TLS_/),
    });
});
