/**
 * Ten thousand requests that are wrong, by HTTP and gRPC: each is answered, with an error of the caller's, and afterwards the gateway is as it was.
 * PGQUORUM_TEST_SEED replays them.
 */
import v8 from 'node:v8';
import vm from 'node:vm';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { status as grpcStatus } from '@grpc/grpc-js';
import { Prng } from '../simulation/prng.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';
import { brokenConnection, changeBytes, malformedHttp, noise } from './malformed/requests.ts';
import { grpcMethods, GrpcSender, HttpSender, sendBytes } from './malformed/senders.ts';

jest.setTimeout(180_000);
const seed = Number(process.env['PGQUORUM_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const prng = new Prng(seed);
const atOnce = 16;

let gateway: TestGateway;
beforeAll(async () => {
  process.stderr.write(`malformed requests: PGQUORUM_TEST_SEED=${seed}\n`);
  gateway = await freshGateway({ count: 1, env: { PGQUORUM_LOG_LEVEL: 'error' } });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3, index: { type: 'none' } } });
}, 120_000);
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

/** Runs so many, some at once. */
async function many(count: number, one: () => Promise<void>): Promise<void> {
  let left = count;
  const worker = async () => {
    while (left-- > 0) await one();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

v8.setFlagsFromString('--expose-gc');
const collectGarbage = vm.runInNewContext('gc') as () => void;
function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

/** What was asked and answered, where the answer is none of the caller's errors. */
const wrong: string[] = [];
const tally = new Map<string | number, number>();
const count = (outcome: string | number) => tally.set(outcome, (tally.get(outcome) ?? 0) + 1);

const overHttp = (sender: HttpSender) => async () => {
  const request = malformedHttp(prng);
  const { status, text } = await sender.send(request);
  count(status);
  if (status >= 500 || (status >= 400 && !/"code":"[a-z_]+"/.test(text)))
    wrong.push(
      `${request.method} ${request.path} ${JSON.stringify(request.headers)} ${request.body?.toString('latin1') ?? ''}: ${status} ${text}`,
    );
};

const overConnection = async () => {
  const bytes = brokenConnection(prng);
  const answer = (await sendBytes(gateway.gateway.httpPort, bytes)).toString('latin1');
  const [, status = 'closed'] = /^HTTP\/1\.1 (\d+)/.exec(answer) ?? [];
  count(status);
  if (status.startsWith('5')) wrong.push(`${bytes.toString('latin1')}: ${answer}`);
};

/** Statuses that say that the server has failed. */
const failures = new Set([
  grpcStatus.INTERNAL,
  grpcStatus.UNKNOWN,
  grpcStatus.DATA_LOSS,
  grpcStatus.DEADLINE_EXCEEDED,
]);
const message = {
  collection: 'docs',
  name: 'docs',
  id: 'a',
  ids: ['a'],
  vectors: [{ id: 'a', metadataJson: '{}' }],
  k: 3,
};

const overGrpc = (sender: GrpcSender) => async () => {
  const method = grpcMethods[prng.below(grpcMethods.length)]!;
  // What others need is not to go.
  const destroys = /\/(Delete|Detach)$/.test(method.path);
  const bytes =
    destroys || prng.chance(50)
      ? noise(prng, prng.between(1, 200))
      : changeBytes(prng, method.encode(message));
  const status = await sender.send(method.path, bytes);
  count(grpcStatus[status]);
  if (failures.has(status)) wrong.push(`${method.path} ${bytes.toString('hex')}: ${grpcStatus[status]}`);
};

test('each of ten thousand is answered, none with an error of the server, and memory stays flat', async () => {
  using http = new HttpSender(gateway.gateway.httpPort);
  using grpc = new GrpcSender(gateway.gateway.grpcPort);
  const round = async (part: number) => {
    await many(5500 * part, overHttp(http));
    await many(500 * part, overConnection);
    await many(3500 * part, overGrpc(grpc));
    await many(500 * part, async () => {
      await sendBytes(gateway.gateway.grpcPort, noise(prng, prng.between(1, 500)));
      count('gRPC port closed');
    });
  };
  await round(0.4);
  const before = heapBytes();
  await round(0.6);
  const grown = heapBytes() - before;
  expect(wrong.slice(0, 5)).toEqual([]);
  expect([...tally.values()].reduce((sum, one) => sum + one)).toBe(10_000);
  const refused = [...tally].filter(([outcome]) => String(outcome).startsWith('4'));
  expect(refused.reduce((sum, [, times]) => sum + times, 0)).toBeGreaterThan(4500);
  expect(tally.get('INVALID_ARGUMENT')).toBeGreaterThan(1000);
  expect(grown).toBeLessThan(12e6);
});

test('the gateway works as before, and has reported no failure of its own', async () => {
  const body = { vectors: [{ id: 'after', embedding: [1, 2, 3] }] };
  expect((await gateway.send('POST', '/v1/collections/docs/vectors', { body })).status).toBe(200);
  expect(gateway.log.filter((line) => (JSON.parse(line) as { level: number }).level >= 50)).toEqual([]);
});
