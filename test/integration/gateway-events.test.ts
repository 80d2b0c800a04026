/** Events of conflicts as streams: what is told, in what order, from where on, and how streams end. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import pg from 'pg';
import { forgetEvents } from '#core/events/log.pg.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { addRecord } from './conflict-records.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

const key = 'the-key';
const headers = { 'x-api-key': key };
let fresh: FreshNodes;
let gateway: TestGateway;
let counter = 0;

const start = () =>
  startGateway({
    nodes: fresh.nodes,
    cluster: fresh.cluster,
    env: { PGQUORUM_API_KEYS: key, PGQUORUM_ZONE: 'z1' },
  });

beforeAll(async () => {
  fresh = await freshNodes({ count: 3 });
  gateway = await start();
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 }, headers });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await fresh[Symbol.asyncDispose]();
});

interface Told {
  readonly id: string;
  readonly event: string;
  readonly data: Readonly<Record<string, string>>;
}

/** A reader of server-sent events that keeps what it is told. */
class Listener implements AsyncDisposable {
  readonly told: Told[] = [];
  comments = 0;
  ended = false;
  readonly #abort = new AbortController();
  #done: Promise<void> = Promise.resolve();

  static async open(after?: string, query = ''): Promise<Listener> {
    const listener = new Listener();
    const response = await fetch(`http://127.0.0.1:${gateway.gateway.httpPort}/v1/events${query}`, {
      headers: { ...headers, ...(after === undefined ? {} : { 'last-event-id': after }) },
      signal: listener.#abort.signal,
    });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(response.headers.get('x-request-id')).toEqual(expect.any(String));
    listener.#done = listener.#read(response.body!);
    await eventually('the stream is open', () => listener.comments > 0);
    return listener;
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    let text = '';
    const decoder = new TextDecoder();
    try {
      for await (const chunk of body) {
        text += decoder.decode(chunk, { stream: true });
        const blocks = text.split('\n\n');
        text = blocks.pop()!;
        for (const block of blocks) this.#take(block);
      }
    } catch {
      // ended from either side; the tests look at `ended`
    }
    this.ended = true;
  }

  #take(block: string): void {
    const fields = new Map(
      block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    );
    if (fields.has('')) this.comments += 1;
    if (fields.has('data'))
      this.told.push({
        id: fields.get('id')!,
        event: fields.get('event')!,
        data: JSON.parse(fields.get('data')!) as Told['data'],
      });
  }

  until(count: number): Promise<unknown> {
    return eventually(`${count} events are told`, () => this.told.length >= count);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }
}

const row = (id: string) => ({ id, embedding: '[7,8,9]', metadata: '{}' });

async function found(id: string): Promise<string> {
  await gateway.send('POST', '/v1/collections/docs/vectors', {
    body: { vectors: [{ id, embedding: [1, 2, 3] }] },
    headers,
  });
  return addRecord(gateway, { key: id, row: row(id), counter: 500_000 + ++counter });
}

test('a conflict is told when it is found, resolved and restored, once each', async () => {
  await using listener = await Listener.open();
  const resolved = await found('a');
  const restored = await found('b');
  // The streamed node must be the one that is told by the call: without replication only the coordinator is.
  await listener.until(2);
  const node = gateway.nodes.findIndex(({ name }) => name === listener.told[0]!.data['node']);
  await gateway.sql(
    node,
    `update pgquorum.conflict set state = 'resolved', state_hlc = state_hlc + 1 where id = '${resolved}'`,
  );
  await gateway.sql(
    node,
    `update pgquorum.conflict set state = 'restored', state_hlc = state_hlc + 1 where id = '${restored}'`,
  );
  await gateway.sql(node, `update pgquorum.conflict set applied = true where id = '${restored}'`); // tells nothing
  await listener.until(4);
  expect(listener.told.map(({ event, data }) => [event, data['happened'], data['conflictId']])).toEqual([
    ['conflict', 'found', resolved],
    ['conflict', 'found', restored],
    ['conflict', 'resolved', resolved],
    ['conflict', 'restored', restored],
  ]);
  expect(listener.told[0]).toEqual({
    id: expect.stringMatching(/^n[123]\.\d+\.\d+\.\d+$/),
    event: 'conflict',
    data: {
      type: 'conflict',
      at: expect.stringMatching(/^\d{4}-.*Z$/),
      node: expect.stringMatching(/^n[123]$/),
      happened: 'found',
      conflictId: resolved,
      collection: 'docs',
      key: 'a',
      kind: 'update-update',
      state: 'open',
      stateOrigin: 'n1',
    },
  });
});

test('a stream resumes after any event that it has told, on the same node and on another', async () => {
  await using first = await Listener.open();
  const ids: string[] = [];
  for (const one of ['c', 'd', 'e']) ids.push(await found(one));
  await first.until(3);
  const [, second] = first.told;
  await using resumed = await Listener.open(second!.id);
  await resumed.until(1);
  expect(resumed.told.map(({ data }) => data['conflictId'])).toEqual([ids[2]]);
  // A node that is no more: it goes on with another by the time, and tells what overlaps again.
  await using moved = await Listener.open(second!.id.replace(/^[^.]+/, 'gone'));
  await eventually('the other node has told the last', () =>
    moved.told.some(({ data }) => data['conflictId'] === ids[2]),
  );
  expect(new Set(moved.told.map(({ id }) => id)).size).toBe(moved.told.length);
});

test('what a transaction wrote that ends later than a younger one is told all the same', async () => {
  await using listener = await Listener.open();
  await found('f');
  await listener.until(1);
  const node = gateway.nodes.find(({ name }) => name === listener.told[0]!.data['node'])!;
  const [slow, fast] = [new pg.Client(node.url), new pg.Client(node.url)];
  await slow.connect();
  await fast.connect();
  try {
    const insert = (client: pg.Client, happened: string) =>
      client.query(
        `insert into pgquorum.event (type, body) values ('conflict', jsonb_build_object('happened', $1::text))`,
        [happened],
      );
    await slow.query('begin');
    await insert(slow, 'slow');
    await insert(fast, 'fast');
    await new Promise((resolve) => setTimeout(resolve, 700)); // some polls
    await slow.query('commit');
    await listener.until(3);
    expect(listener.told.slice(1).map(({ data }) => data['happened'])).toEqual(['slow', 'fast']);
  } finally {
    await slow.end();
    await fast.end();
  }
});

test('streams need the key, known types and an id of ours', async () => {
  const ask = async (query: string, extra: Record<string, string>) => {
    const { status, body } = await gateway.send('GET', `/v1/events${query}`, { headers: extra });
    return [status, (body as { code: string }).code];
  };
  expect(await ask('', {})).toEqual([401, 'unauthenticated']);
  expect(await ask('?types=gossip', headers)).toEqual([400, 'invalid_request']);
  expect(await ask('?kind=conflict', headers)).toEqual([400, 'unknown_field']);
  expect(await ask('', { ...headers, 'last-event-id': 'yesterday' })).toEqual([400, 'invalid_request']);
});

test('gRPC streams the same', async () => {
  using client = new GrpcClient(gateway.gateway.grpcPort, key);
  await using listener = await Listener.open();
  const told: Record<string, unknown>[] = [];
  const call = client.stream('Replication', 'Events', { types: ['conflict'] });
  call.on('data', (event: Record<string, unknown>) => told.push(event));
  const ended = new Promise((resolve) => call.on('error', resolve));
  await eventually('both are told', async () => {
    await found(`g${counter}`);
    return told.length > 0 && listener.told.length > 0;
  });
  expect(told[0]).toMatchObject({
    id: expect.stringMatching(/^n[123]\.\d+\.\d+\.\d+$/),
    type: 'conflict',
    node: expect.stringMatching(/^n[123]$/),
  });
  expect(JSON.parse(String(told[0]!['bodyJson']))).toMatchObject({ happened: 'found', collection: 'docs' });
  call.cancel();
  expect(await ended).toMatchObject({ code: 1 });
  // Resumed after an event that the other surface told.
  const again = client.stream('Replication', 'Events', { after: listener.told[0]!.id });
  const later = new Promise<Record<string, unknown>>((resolve) => again.once('data', resolve));
  again.on('error', () => undefined); // cancelled below
  await found('last');
  expect(JSON.parse(String((await later)['bodyJson']))).not.toMatchObject({
    conflictId: listener.told[0]!.data['conflictId'],
  });
  again.cancel();
  using stranger = new GrpcClient(gateway.gateway.grpcPort);
  const refused = stranger.stream('Replication', 'Events', {});
  expect(await new Promise((resolve) => refused.on('error', resolve))).toMatchObject({ code: 16 });
});

test('a position that is forgotten is refused, and a stream that ends with its gateway goes on after it', async () => {
  await using listener = await Listener.open();
  const ids = [await found('h'), await found('i')];
  // In the order in which a gateway hears of them, which is not always that in which they were found; what was found before may still come between.
  const ours = () => listener.told.filter(({ data }) => ids.includes(data['conflictId'] as string));
  await eventually('both are told', () => ours().length === 2);
  const [first, second] = ours();
  const started = performance.now();
  await gateway[Symbol.asyncDispose]();
  expect(performance.now() - started).toBeLessThan(8000);
  await eventually('the stream has ended', () => listener.ended);
  gateway = await start();
  await using resumed = await Listener.open(first!.id);
  // A gateway that has just started and can not reach that node yet goes on at another one, with what that one has heard since some minutes before.
  await eventually('the event after it is told', () =>
    resumed.told.some(({ data }) => data['conflictId'] === second!.data['conflictId']),
  );
  for (const node of gateway.nodes) {
    const client = new pg.Client(node.url);
    await client.connect();
    await forgetEvents(client, 0);
    await client.end();
  }
  const refused = await gateway.send('GET', '/v1/events', {
    headers: { ...headers, 'last-event-id': first!.id },
  });
  expect(refused).toMatchObject({ status: 410, body: { code: 'position_expired' } });
  // The last event that was told is the last one there was: nothing was missed after it.
  await using last = await Listener.open(resumed.told.at(-1)!.id);
  const next = await found('j');
  await last.until(1);
  expect(last.told[0]!.data['conflictId']).toBe(next);
}, 120_000);
