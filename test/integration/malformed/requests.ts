/** Requests that are wrong: valid ones with something changed, and noise. The same seed makes the same ones. */
import { routeContracts } from '../../../apps/gateway/src/contract/document.ts';
import type { Prng } from '../../simulation/prng.ts';

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: Buffer | null;
}

const id = '00000000-0000-4000-8000-000000000000';
const item = { id: 'a', embedding: [1, 2, 3], metadata: { a: 1 } };
/** A body for each operation that takes one; those of the collection `docs` would be taken. */
const bodies: Readonly<Record<string, object>> = {
  putCollection: { dimension: 3, index: { type: 'hnsw', m: 8 }, conflicts: { strategy: 'lww' } },
  changeCollection: { conflicts: { models: ['m1'] } },
  attachTable: { table: 'public.nobody', allow: { triggers: [] } },
  alterTable: { statement: 'alter table docs add column a int' },
  upsertVectors: { vectors: [item, { ...item, id: 'b', embedding: { base64: 'AACAPwAAAEAAAEBA' } }] },
  deleteVectors: { ids: ['a', 'b'] },
  getVectors: { ids: ['a', 'b'] },
  patchVector: { metadata: { a: null }, embedding: [1, 2, 3] },
  search: {
    embedding: [1, 2, 3],
    k: 3,
    filter: { $and: [{ a: { $gte: 1 } }, { b: 'x' }] },
    include: ['version'],
  },
  resolveConflict: { metadata: {}, embedding: [1, 2, 3] },
  setThrottle: { bytesPerSecond: 100_000 },
  addReplica: { name: 'n9', url: 'postgres://nobody@127.0.0.1:1/none', zone: 'z' },
  verify: { collection: 'docs', deep: true, repair: 'none' },
  moveShard: { from: 'n1', to: 'n2' },
};
const parameters: Readonly<Record<string, string>> = {
  name: 'docs',
  collection: 'docs',
  id,
  node: 'n1',
  key: 'a',
  shard: '0',
};

export const noise = (prng: Prng, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => prng.below(256)));

const odd: readonly unknown[] = [
  null,
  true,
  -1,
  1e308,
  2 ** 53,
  '',
  '\0',
  '\ud800',
  'x'.repeat(2000),
  [],
  {},
  [[[[]]]],
  { base64: '!' },
  { $where: '1' },
  '__proto__',
];

/** One value somewhere in it becomes another one, goes, or gets company. */
export function changeValue(prng: Prng, value: unknown): unknown {
  if (typeof value === 'object' && value !== null && !prng.chance(15)) {
    const keys = Object.keys(value);
    if (keys.length > 0) {
      const key = keys[prng.below(keys.length)]!;
      const inner = (value as Record<string, unknown>)[key];
      if (Array.isArray(value)) return value.with(Number(key), changeValue(prng, inner));
      if (prng.chance(10)) return { ...value, [`x${prng.below(100)}`]: 1 };
      return { ...value, [key]: prng.chance(10) ? undefined : changeValue(prng, inner) };
    }
  }
  return odd[prng.below(odd.length)];
}

/** Bytes of it change, come, go or are cut off. */
export function changeBytes(prng: Prng, given: Buffer): Buffer {
  let bytes = Buffer.from(given);
  for (let times = prng.between(1, 4); times > 0; times--) {
    const at = prng.below(bytes.length + 1);
    switch (prng.below(4)) {
      case 0:
        if (at < bytes.length) bytes[at] = prng.below(256);
        break;
      case 1:
        bytes = Buffer.concat([bytes.subarray(0, at), noise(prng, prng.between(1, 8)), bytes.subarray(at)]);
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + prng.between(1, 8))]);
        break;
      default:
        bytes = bytes.subarray(0, at);
    }
  }
  return bytes;
}

/** Only what a URL may be made of, so that it gets as far as the router. */
const oddSegments = [
  '%',
  '%zz',
  '%00',
  '%ed%a0%80',
  'A'.repeat(3000),
  '..',
  '%2e%2e',
  '%2f',
  '~',
  '*',
  ':id',
  '-1',
];
const oddQueries = [
  '?',
  '?a',
  '?limit=0',
  '?limit=x',
  '?cursor=AAAA',
  '?consistency=',
  '?timeoutMs=-1',
  '?a[b]=1',
  '?__proto__=1',
  '?state=%00',
];
const oddHeaders: readonly Record<string, string>[] = [
  { 'content-type': 'text/plain' },
  { 'content-type': 'application/json; charset=utf-16' },
  { 'content-type': '' },
  { 'if-match': 'x' },
  { 'idempotency-key': '' },
  { 'idempotency-key': 'k'.repeat(300) },
  { 'last-event-id': 'x' },
  { 'content-encoding': 'gzip' },
];

/** Streams that are asked for rightly do not end. */
const routes = routeContracts.filter(
  ({ tag, body, path }) => tag !== 'streams' && (body !== undefined || path.includes('{')),
);

export function malformedHttp(prng: Prng): HttpRequest {
  const route = routes[prng.below(routes.length)]!;
  const valid = bodies[route.id];
  const text = valid === undefined ? null : Buffer.from(JSON.stringify(valid));
  const body =
    text === null
      ? prng.chance(50)
        ? null
        : noise(prng, prng.below(200))
      : prng.chance(50)
        ? Buffer.from(JSON.stringify(changeValue(prng, valid)) ?? '')
        : prng.chance(80)
          ? changeBytes(prng, text)
          : noise(prng, prng.below(200));
  // Where the body says nothing the path has to be wrong, and a collection that others need is not to go.
  const breaksPath = text === null || prng.chance(20);
  let path = route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
    breaksPath ? oddSegments[prng.below(oddSegments.length)]! : parameters[name]!,
  );
  if (prng.chance(25)) path += oddQueries[prng.below(oddQueries.length)]!;
  return {
    method: route.method.toUpperCase(),
    path,
    headers: {
      ...(body === null ? {} : { 'content-type': 'application/json' }),
      ...(prng.chance(20) ? oddHeaders[prng.below(oddHeaders.length)] : {}),
    },
    body,
  };
}

const head =
  'POST /v1/collections/docs/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n';
const brokenHeads = [
  `${head}content-length: 5\r\n\r\n{"embedding":[1]}`,
  `${head}content-length: 5000\r\n\r\n{}`,
  `${head}content-length: -1\r\n\r\n{}`,
  `${head}content-length: 2\r\ncontent-length: 3\r\n\r\n{}`,
  `${head}transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`,
  `${head}transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
  `${head}x: ${'y'.repeat(20_000)}\r\n\r\n`,
  'GET  / HTTP/9.9\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'GET / HTTP/1.1\r\n\r\n',
];

/** What comes over a connection when somebody speaks something else. */
export function brokenConnection(prng: Prng): Buffer {
  if (prng.chance(30)) return noise(prng, prng.between(1, 500));
  return changeBytes(prng, Buffer.from(brokenHeads[prng.below(brokenHeads.length)]!));
}
