/** Jobs as a gateway shows them: of all nodes, by HTTP and gRPC. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { JobBoard } from '#core/jobs/board.pg.ts';
import type { JobView } from '#core/jobs/job.ts';
import { startMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { openCluster } from '#core/topology/open-cluster.pg.ts';
import { settingsFor, startGateway, type Answer, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

jest.setTimeout(120_000);

let masters: Masters;
let gateway: TestGateway;

beforeAll(async () => {
  masters = await startMasters({ count: 2 });
  gateway = await startGateway({ nodes: masters.nodes, cluster: 'jobs' });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await masters[Symbol.asyncDispose]();
});

const add = async (node: number, values: Record<string, unknown>): Promise<string> => {
  const { kind = 'work', state = 'waiting', result = null, error = null, at } = values;
  const [row] = await gateway.sql<{ id: string }>(
    node,
    `insert into pgquorum.job (kind, arguments, progress, state, result, error, created_at)
     values ($1, '{"a":1}', '{"done":3,"total":null,"unit":"rows"}', $2, $3, $4, coalesce($5::timestamptz, clock_timestamp())) returning id`,
    [kind, state, JSON.stringify(result), error === null ? null : JSON.stringify(error), at ?? null],
  );
  return row!.id;
};

const items = (answer: Answer): JobView[] => {
  expect(answer.status).toBe(200);
  return (answer.body as { items: JobView[] }).items;
};

test('a job is shown with its home, whichever node that is, and with its result or error', async () => {
  const done = await add(1, { state: 'done', result: { found: 2 } });
  const failed = await add(0, { state: 'failed', error: { code: 'timeout', detail: 'late' } });
  const { body } = await gateway.send('GET', `/v1/jobs/${done}`);
  expect(body).toEqual({
    id: done,
    kind: 'work',
    state: 'done',
    progress: { done: 3, total: null, unit: 'rows' },
    home: 'n2',
    arguments: { a: 1 },
    result: { found: 2 },
    createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
    updatedAt: expect.any(String),
  });
  expect((await gateway.send('GET', `/v1/jobs/${failed}`)).body).toMatchObject({
    home: 'n1',
    error: { code: 'timeout', detail: 'late' },
  });
});

test('lists have the jobs of all nodes, the newest first, in pages that miss none, and filters', async () => {
  const ids: string[] = [];
  for (let at = 0; at < 7; at++)
    ids.unshift(
      await add(at % 2, {
        kind: 'paged',
        state: at < 2 ? 'done' : 'waiting',
        at: `2030-01-0${1 + Math.floor(at / 3)}T00:00:00Z`,
      }),
    );
  const pages: JobView[][] = [];
  for (let cursor: string | undefined = ''; cursor !== undefined;) {
    const answer: Answer = await gateway.send(
      'GET',
      `/v1/jobs?kind=paged&limit=3${cursor && `&cursor=${cursor}`}`,
    );
    pages.push(items(answer));
    cursor = (answer.body as { nextCursor?: string }).nextCursor;
  }
  expect(pages.map((page) => page.length)).toEqual([3, 3, 1]);
  expect(
    pages
      .flat()
      .map((job) => job.id)
      .toSorted(),
  ).toEqual(ids.toSorted());
  const times = pages.flat().map((job) => job.createdAt);
  expect(times).toEqual(times.toSorted().reverse());
  expect(items(await gateway.send('GET', '/v1/jobs?kind=paged&state=done'))).toHaveLength(2);
  for (const query of ['limit=0', 'state=odd', 'kind=Odd!', 'cursor=x', 'odd=1'])
    expect((await gateway.send('GET', `/v1/jobs?${query}`)).status).toBe(400);
});

test('a job is cancelled where it lives; what is unknown or has ended says so', async () => {
  const waiting = await add(1, {});
  const cancelled = await gateway.send('DELETE', `/v1/jobs/${waiting}`);
  expect(cancelled.status).toBe(202);
  expect(cancelled.headers.get('location')).toBe(`/v1/jobs/${waiting}`);
  expect(cancelled.body).toEqual({
    job: { id: waiting, state: 'cancelled', progress: { done: 3, total: null, unit: 'rows' } },
  });
  const done = await add(0, { state: 'done' });
  expect(await gateway.send('DELETE', `/v1/jobs/${done}`)).toMatchObject({
    status: 409,
    body: { code: 'job_finished' },
  });
  for (const id of ['00000000-0000-4000-8000-000000000000', 'x'])
    for (const method of ['GET', 'DELETE'])
      expect(await gateway.send(method, `/v1/jobs/${id}`)).toMatchObject({
        status: 404,
        body: { code: 'job_not_found' },
      });
});

test('gRPC has the same verbs', async () => {
  using client = new GrpcClient(gateway.gateway.grpcPort);
  const id = await add(1, { kind: 'grpc' });
  expect(await client.call('Cluster', 'GetJob', { id })).toMatchObject({
    kind: 'grpc',
    home: 'n2',
    progress: { done: 3, unit: 'rows' },
    argumentsJson: '{"a":1}',
  });
  expect(await client.call('Cluster', 'CancelJob', { id })).toMatchObject({ state: 'cancelled' });
  expect(await client.call('Cluster', 'ListJobs', { kind: 'grpc' })).toMatchObject({
    items: [{ id, state: 'cancelled' }],
    nextCursor: '',
  });
  await expect(client.call('Cluster', 'GetJob', { id: 'x' })).rejects.toThrow('There is no such job');
});

test('a job begins at a node whose replicator is alive', async () => {
  const { nodes: settings, cluster } = settingsFor(masters.nodes, 'jobs');
  const { nodes: opened } = await openCluster({ nodes: settings!, cluster, log: 'wal' });
  const nodes = new Nodes(opened, { poolMax: 2 });
  try {
    const board = new JobBoard(nodes, { failureTimeoutMs: 60_000 });
    for (const alive of [0, 1]) {
      for (const node of [0, 1])
        await gateway.sql(
          node,
          "update pgquorum.heartbeat h set at = clock_timestamp() - $1 * interval '1 hour' from pgquorum.node n where n.number = h.number",
          [node === alive ? 0 : 1],
        );
      for (let times = 0; times < 2; times++)
        expect((await board.start({ kind: 'homed', arguments: {} })).home).toBe(`n${alive + 1}`);
    }
  } finally {
    await nodes.close();
  }
});

test('while a node is down its jobs are missing from lists, which say so, and asking for one says where it may be', async () => {
  const there = await add(0, { kind: 'kept' });
  const gone = await add(1, { kind: 'kept' });
  await masters.nodes[1]!.kill9();
  const answer = await eventually('the node is missed', async () => {
    const found = await gateway.send('GET', '/v1/jobs?kind=kept');
    return (found.body as { unreachable?: string[] }).unreachable === undefined ? null : found;
  });
  expect(answer.body).toMatchObject({ items: [{ id: there }], unreachable: ['n2'] });
  expect((await gateway.send('GET', `/v1/jobs/${there}`)).status).toBe(200);
  expect(await gateway.send('GET', `/v1/jobs/${gone}`)).toMatchObject({
    status: 503,
    body: { code: 'replicas_unavailable', detail: expect.stringContaining('n2') },
  });
  await masters.nodes[1]!.start();
  await eventually(
    'it is found again',
    async () => (await gateway.send('GET', `/v1/jobs/${gone}`)).status === 200,
  );
});
