/** What a gateway does when there is more to do than it takes on: it says so, with a time, and goes on. */
import { createConnection } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import pg from 'pg';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

let fresh: FreshNodes;
beforeAll(async () => {
  fresh = await freshNodes({ count: 1 });
}, 120_000);
afterAll(async () => fresh[Symbol.asyncDispose]());

const start = (env: Record<string, string>): Promise<TestGateway> =>
  startGateway({
    nodes: fresh.nodes,
    cluster: fresh.cluster,
    env: { PGQUORUM_API_KEYS: 'alice,bob', ...env },
  });

const as = (who: string) => ({ headers: { 'x-api-key': who } });
const write = (gateway: TestGateway, id: string) =>
  gateway.send('POST', '/v1/collections/docs/vectors?consistency=one', {
    ...as('alice'),
    body: { vectors: [{ id, embedding: [1] }] },
  });

interface Refusal {
  readonly code: number;
  readonly metadata: { get(name: string): Buffer[] };
}

async function call(gateway: TestGateway, who: string): Promise<Refusal | null> {
  using client = new GrpcClient(gateway.gateway.grpcPort, who);
  return await client.call('Collections', 'List', {}).then(
    () => null,
    (error: Refusal) => error,
  );
}

/** From the metrics. */
async function requests(gateway: TestGateway): Promise<string> {
  const text = (await gateway.send('GET', '/metrics', as('bob'))).body as string;
  const of = (state: string) =>
    new RegExp(`pgquorum_requests\\{state="${state}".*\\} (\\d+)`).exec(text)?.[1];
  return `${of('running')} run, ${of('waiting')} wait`;
}

/** Until the end of the block every write of docs stands still. */
async function blockWrites(): Promise<AsyncDisposable> {
  const client = new pg.Client(fresh.nodes[0]!.url);
  await client.connect();
  await client.query('begin; lock table docs in access exclusive mode');
  return { [Symbol.asyncDispose]: () => client.end() };
}

describe('a gateway that works on three requests at once and has two wait', () => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await start({
      PGQUORUM_REQUESTS_MAX: '3',
      PGQUORUM_REQUESTS_WAITING_MAX: '2',
      PGQUORUM_REQUESTS_WAIT_MS: '20000',
    });
    await gateway.send('PUT', '/v1/collections/docs', { ...as('alice'), body: { dimension: 1 } });
  }, 60_000);
  afterAll(async () => gateway[Symbol.asyncDispose]());

  const noneRuns = () =>
    eventually('no other request runs', async () => (await requests(gateway)) === '1 run, 0 wait');

  test('refuses more with the time to come back, over HTTP and gRPC, and still tells its health', async () => {
    const sent: ReturnType<typeof write>[] = [];
    {
      await using _blocked = await blockWrites();
      for (const id of ['a', 'b', 'c', 'd', 'e', 'f']) sent.push(write(gateway, id));
      const refused = await Promise.race(sent);
      expect(refused.status).toBe(503);
      expect(refused.body).toMatchObject({ code: 'overloaded' });
      expect(refused.headers.get('retry-after')).toBe('20');
      const failure = await call(gateway, 'alice');
      expect(failure?.code).toBe(14);
      const details = failure!.metadata.get('grpc-status-details-bin')[0]!.toString('latin1');
      expect(details).toMatch(/overloaded[^]*google\.rpc\.RetryInfo/);
      expect((await gateway.send('GET', '/healthz')).status).toBe(200);
    }
    const answers = await Promise.all(sent);
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      200, 200, 200, 200, 200, 503,
    ]);
    await noneRuns();
  }, 60_000);

  test('counts what it works on for callers that are gone, and nothing for good', async () => {
    {
      await using _blocked = await blockWrites();
      const gone = new AbortController();
      const body = JSON.stringify({ vectors: [{ id: 'g', embedding: [1] }] });
      const sent = fetch(
        `http://127.0.0.1:${gateway.gateway.httpPort}/v1/collections/docs/vectors?consistency=one`,
        {
          method: 'POST',
          body,
          headers: { 'x-api-key': 'alice', 'content-type': 'application/json' },
          signal: gone.signal,
        },
      );
      await eventually('it runs', async () => (await requests(gateway)) === '2 run, 0 wait');
      gone.abort();
      await expect(sent).rejects.toThrow();
      expect(await requests(gateway)).toBe('2 run, 0 wait');
    }
    await noneRuns();
    // Somebody who never sends the rest of a body.
    const socket = createConnection(gateway.gateway.httpPort, '127.0.0.1');
    socket.write(
      'POST /v1/collections/docs/vectors HTTP/1.1\r\nhost: localhost\r\nx-api-key: alice\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{',
    );
    await eventually('it runs', async () => (await requests(gateway)) === '2 run, 0 wait');
    socket.destroy();
    await noneRuns();
  }, 60_000);

  test('answers all that it has let in when it closes, those that wait too, and is not held up by their connections', async () => {
    let sent: ReturnType<typeof write>[];
    let closed: Promise<void>;
    {
      await using _blocked = await blockWrites();
      // One more than there is room for: once it is refused the others are in.
      sent = ['h', 'i', 'j', 'k', 'l', 'm'].map((id) => write(gateway, id));
      expect((await Promise.race(sent)).status).toBe(503);
      closed = gateway.gateway.close();
    }
    expect((await Promise.all(sent)).map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      200, 200, 200, 200, 200, 503,
    ]);
    await closed;
  }, 20_000);
});

test('each caller has a rate of its own, over HTTP and gRPC together', async () => {
  await using gateway = await start({ PGQUORUM_RATE_LIMIT_PER_S: '1', PGQUORUM_RATE_LIMIT_BURST: '3' });
  const list = (who: string) => gateway.send('GET', '/v1/collections', as(who));
  expect((await list('alice')).status).toBe(200);
  expect(await call(gateway, 'alice')).toBeNull();
  const refused = await eventually('the burst is over', async () => {
    const answer = await list('alice');
    return answer.status === 200 ? null : answer;
  });
  expect(refused).toMatchObject({ status: 429, body: { code: 'rate_limited' } });
  expect(refused.headers.get('retry-after')).toBe('1');
  const failure = await call(gateway, 'alice');
  expect(failure?.code).toBe(8);
  expect(failure!.metadata.get('grpc-status-details-bin')[0]!.toString('latin1')).toMatch(
    /rate_limited[^]*google\.rpc\.RetryInfo/,
  );
  expect((await list('bob')).status).toBe(200);
  for (let turn = 0; turn < 5; turn++) expect((await gateway.send('GET', '/healthz')).status).toBe(200);
  await new Promise((resolve) =>
    setTimeout(resolve, Number((refused.body as { retryAfterMs: number }).retryAfterMs)),
  );
  expect((await list('alice')).status).toBe(200);
}, 60_000);
