/** Tokens: which are taken, and what their bearers may do, alike over HTTP and gRPC. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { exportJWK, SignJWT, UnsecuredJWT } from 'jose';
import { loadSettings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import { Guard } from '../../apps/gateway/src/access/guard.ts';
import { operationOfRoute } from '../../apps/gateway/src/access/operation-table.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

const secret = 'a-secret-of-at-least-32-characters';
const hs256 = new TextEncoder().encode(secret);
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const nextEc = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const folder = mkdtempSync(join(tmpdir(), 'pgquorum-tokens-'));

interface Token {
  readonly alg?: string;
  readonly key?: Uint8Array | KeyObject;
  readonly kid?: string;
  readonly claims?: Record<string, unknown>;
}

const nowS = (): number => Math.floor(Date.now() / 1000);
const good = (): Record<string, unknown> => ({
  sub: 'alice',
  aud: 'pgquorum',
  exp: nowS() + 60,
  pgquorum: 'vectors:read@docs',
});

/** Claims that are undefined are left out. */
const token = ({ alg = 'HS256', key = hs256, kid, claims = {} }: Token = {}): Promise<string> =>
  new SignJWT({ ...good(), ...claims })
    .setProtectedHeader({ alg, ...(kid === undefined ? {} : { kid }) })
    .sign(key);

const guardOf = (env: Record<string, string>): Guard =>
  new Guard(loadSettings(env), { collectionOfConflict: () => Promise.reject(new Error('not asked')) });

/** The principal, or the code and the detail of the error. */
const identify = (guard: Guard, bearer: string): Promise<string> =>
  guard.identify({ authorization: `Bearer ${bearer}`, apiKey: undefined }).then(
    ({ principal }) => principal,
    (error: unknown) => (error instanceof PgquorumError ? `${error.code}: ${error.detail}` : String(error)),
  );

const pemFile = (name: string, key: KeyObject): string => {
  const file = join(folder, name);
  writeFileSync(file, key.export({ type: key.type === 'public' ? 'spki' : 'pkcs8', format: 'pem' }));
  return file;
};

afterAll(() => rmSync(folder, { recursive: true }));

describe('a secret', () => {
  const guard = guardOf({ PGQUORUM_JWT_SECRET: secret, PGQUORUM_API_KEYS: 'the-key' });

  test('takes tokens that were signed with it, beside keys', async () => {
    expect(await identify(guard, await token())).toBe('jwt:alice');
    expect(await identify(guard, 'the-key')).toMatch(/^key:/);
  });

  const wrong: [what: string, token: () => Promise<string> | string, detail: RegExp][] = [
    [
      'of another secret',
      () => token({ key: new TextEncoder().encode(`${secret}!`) }),
      /can not be verified/,
    ],
    ['that has expired', () => token({ claims: { exp: nowS() - 31 } }), /has expired/],
    ['that is not valid yet', () => token({ claims: { nbf: nowS() + 60 } }), /claim nbf/],
    ['that never ends', () => token({ claims: { exp: undefined } }), /claim exp .*missing/],
    ['of nobody', () => token({ claims: { sub: undefined } }), /claim sub .*missing/],
    ['of somebody without a name', () => token({ claims: { sub: '' } }), /claim sub/],
    ['of another algorithm', () => token({ alg: 'HS512', key: new Uint8Array(64) }), /algorithm/],
    ['with a public key', () => token({ alg: 'RS256', key: rsa.privateKey }), /algorithm/],
    ['that nobody signed', () => new UnsecuredJWT(good()).encode(), /algorithm/],
    [
      'with a claim that can not be read',
      () => token({ claims: { pgquorum: 'vectors:reed' } }),
      /claim pgquorum/,
    ],
    ['that is none', () => 'a.b.c', /can not be verified/],
  ];
  test.each(wrong)('refuses a token %s', async (_what, make, detail) => {
    const given = await make();
    const answer = await identify(guard, given);
    expect(answer).toMatch(/^unauthenticated: /);
    expect(answer).toMatch(detail);
    expect(answer).not.toContain(given);
  });

  test('refuses a token whose claims were changed', async () => {
    const [head, , signature] = (await token()).split('.');
    const claims = Buffer.from(JSON.stringify({ ...good(), pgquorum: '*' })).toString('base64url');
    expect(await identify(guard, `${head}.${claims}.${signature}`)).toMatch(/^unauthenticated/);
  });

  test('takes tokens of its issuer and audience only, where they are said', async () => {
    const strict = guardOf({
      PGQUORUM_JWT_SECRET: secret,
      PGQUORUM_JWT_ISSUER: 'https://issuer.example',
      PGQUORUM_JWT_AUDIENCE: 'pgquorum',
    });
    const of = (claims: Record<string, unknown>) =>
      token({ claims: { iss: 'https://issuer.example', ...claims } });
    expect(await identify(strict, await of({}))).toBe('jwt:alice');
    expect(await identify(strict, await of({ aud: ['other', 'pgquorum'] }))).toBe('jwt:alice');
    expect(await identify(strict, await of({ iss: 'https://other.example' }))).toMatch(/claim iss/);
    expect(await identify(strict, await of({ iss: undefined }))).toMatch(/claim iss/);
    expect(await identify(strict, await of({ aud: 'other' }))).toMatch(/claim aud/);
    expect(await identify(strict, await of({ aud: undefined }))).toMatch(/claim aud/);
  });

  test('is asked for health as well, where nobody needs any', async () => {
    const ready = operationOfRoute('GET', '/readyz');
    const principal = async (headers: Record<string, string>) =>
      (await guard.identifyHttp(headers, ready)).principal;
    expect(await principal({})).toBe('anonymous');
    expect(await principal({ authorization: 'Bearer wrong' })).toBe('anonymous');
    expect(await principal({ authorization: `Bearer ${await token()}` })).toBe('jwt:alice');
    const { rights } = await guard.identifyHttp({}, ready);
    expect(rights.has('topology:read')).toBe(false);
  });

  test('is long, and public keys need an audience', () => {
    expect(() => loadSettings({ PGQUORUM_JWT_SECRET: 'hunter2' })).toThrow(/PGQUORUM_JWT_SECRET/);
    expect(() => guardOf({ PGQUORUM_JWT_JWKS_URL: 'https://issuer.example/keys' })).toThrow(/AUDIENCE/);
    for (const url of ['http://issuer.example/keys', 'https://u:p@issuer.example/keys', 'keys'])
      expect(() => loadSettings({ PGQUORUM_JWT_JWKS_URL: url })).toThrow(/PGQUORUM_JWT_JWKS_URL/);
  });
});

describe('a file with a public key', () => {
  test.each([
    ['RS256', rsa, ec],
    ['ES256', ec, rsa],
  ])('takes tokens of %s, and of nothing else', async (alg, pair, other) => {
    const file = pemFile(`${alg}.pem`, pair.publicKey);
    const guard = guardOf({ PGQUORUM_JWT_PUBLIC_KEY_FILE: file, PGQUORUM_JWT_AUDIENCE: 'pgquorum' });
    expect(await identify(guard, await token({ alg, key: pair.privateKey }))).toBe('jwt:alice');
    const otherAlg = alg === 'RS256' ? 'ES256' : 'RS256';
    expect(await identify(guard, await token({ alg: otherAlg, key: other.privateKey }))).toMatch(/algorithm/);
    // The public key taken for a secret, which everyone knows.
    const pem = new TextEncoder().encode(pair.publicKey.export({ type: 'spki', format: 'pem' }) as string);
    expect(await identify(guard, await token({ key: pem }))).toMatch(/^unauthenticated.*algorithm/);
  });

  test('that is none, or too weak a one, is a mistake of the settings', () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
    for (const file of [join(folder, 'none.pem'), pemFile('weak.pem', weak.publicKey)])
      expect(() =>
        guardOf({ PGQUORUM_JWT_PUBLIC_KEY_FILE: file, PGQUORUM_JWT_AUDIENCE: 'pgquorum' }),
      ).toThrow(/PGQUORUM_JWT_PUBLIC_KEY_FILE/);
  });
});

describe('a key set', () => {
  let server: Server;
  let asked = 0;
  let keys: readonly [kid: string, key: KeyObject][] = [
    ['r', rsa.publicKey],
    ['e', ec.publicKey],
  ];
  let guard: Guard;

  beforeAll(async () => {
    server = createServer((_request, response) => {
      asked += 1;
      void Promise.all(keys.map(async ([kid, key]) => ({ ...(await exportJWK(key)), kid }))).then((set) =>
        response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: set })),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    guard = guardAt(`http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`);
  });
  afterAll(() => void server.close());

  const guardAt = (url: string): Guard =>
    guardOf({ PGQUORUM_JWT_JWKS_URL: url, PGQUORUM_JWT_AUDIENCE: 'pgquorum' });

  test('is fetched once, and takes tokens of its keys', async () => {
    for (let turn = 0; turn < 3; turn++) {
      expect(await identify(guard, await token({ alg: 'RS256', key: rsa.privateKey, kid: 'r' }))).toBe(
        'jwt:alice',
      );
      expect(await identify(guard, await token({ alg: 'ES256', key: ec.privateKey, kid: 'e' }))).toBe(
        'jwt:alice',
      );
    }
    expect(asked).toBe(1);
  });

  test('refuses keys that it does not have, without asking anew for each', async () => {
    keys = [...keys, ['n', nextEc.publicKey]];
    for (let turn = 0; turn < 3; turn++)
      expect(await identify(guard, await token({ alg: 'ES256', key: nextEc.privateKey, kid: 'n' }))).toMatch(
        /^unauthenticated/,
      );
    expect(asked).toBe(1);
    expect(await identify(guard, await token({ kid: 'r' }))).toMatch(/^unauthenticated.*algorithm/);
  });

  test('that can not be had refuses tokens for now, and no keys', async () => {
    const none = createServer((_request, response) => void response.writeHead(500).end('secret page'));
    await new Promise<void>((resolve) => none.listen(0, '127.0.0.1', resolve));
    const cut = guardAt(`http://127.0.0.1:${(none.address() as AddressInfo).port}/keys`);
    const given = await token({ alg: 'RS256', key: rsa.privateKey, kid: 'r' });
    expect(await identify(cut, given)).toMatch(/^identity_unavailable: (?!.*secret page)/);
    none.close();
    expect(await identify(cut, given)).toMatch(/^identity_unavailable: /);
  });
});

describe('a gateway with a secret', () => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await freshGateway({
      count: 1,
      // Tokens are enough to be bound to the world.
      env: {
        PGQUORUM_JWT_SECRET: secret,
        PGQUORUM_HOST: '0.0.0.0',
        PGQUORUM_JWT_CLAIM: 'https://x.example/may',
      },
    });
  }, 120_000);
  afterAll(async () => gateway[Symbol.asyncDispose]());

  const bearing = (may: unknown, exp = nowS() + 60) =>
    token({ claims: { 'https://x.example/may': may, exp, pgquorum: '*' } });
  const get = async (path: string, bearer: string) => {
    const answer = await gateway.send('GET', path, { headers: { authorization: `Bearer ${bearer}` } });
    return (answer.body as { code?: string }).code ?? answer.status;
  };

  test('does what the claim allows, over HTTP and gRPC', async () => {
    const admin = await bearing(['collections:admin@docs', 'cluster:read']);
    const made = await gateway.send('PUT', '/v1/collections/docs', {
      body: { dimension: 1 },
      headers: { authorization: `Bearer ${admin}` },
    });
    expect(made.status).toBe(201);
    expect(gateway.log.join('')).toMatch(/"audit":true,"principal":"jwt:alice","action":"collections.put"/);
    expect(await get('/v1/cluster/health', admin)).toBe(200);
    expect(await get('/v1/cluster/nodes', admin)).toBe('permission_denied');
    const none = await bearing(undefined);
    expect(await get('/v1/collections/docs', none)).toBe('permission_denied');
    expect(await get('/v1/collections/docs', 'no.such.token')).toBe('unauthenticated');
    for (const [bearer, code] of [
      [admin, null],
      [none, 7],
      ['no.such.token', 16],
    ] as const) {
      using client = new GrpcClient(gateway.gateway.grpcPort, bearer);
      const called = client.call('Collections', 'Get', { name: 'docs' }).then(
        () => null,
        (error: { code: number }) => error.code,
      );
      expect(await called).toBe(code);
    }
    expect(gateway.log.join('')).not.toContain(admin.split('.')[2]);
  });

  test('ends a stream when the token of its caller does', async () => {
    // Half a minute of tolerance is all that is left of it.
    const bearer = await bearing(['cluster:read', 'topology:read'], nowS() - 28);
    const response = await fetch(`http://127.0.0.1:${gateway.gateway.httpPort}/v1/events`, {
      headers: { authorization: `Bearer ${bearer}` },
    });
    using client = new GrpcClient(gateway.gateway.grpcPort, bearer);
    const ended = new Promise((resolve) =>
      client.stream('Replication', 'Events', {}).on('error', resolve).resume(),
    );
    expect(response.status).toBe(200);
    await response.text();
    expect(await ended).toMatchObject({ code: 16 });
    expect(await get('/v1/collections', bearer)).toBe('unauthenticated');
  }, 30_000);
});
