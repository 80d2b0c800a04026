/** Dead letters from the change that is refused to its replay or its end, by HTTP and gRPC. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { deadLetter } from '#core/apply/parking.pg.ts';
import { ApplySession } from '#core/apply/session.pg.ts';
import type { DataChange } from '#core/changelog/change.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

const apiKey = 'the-key';
const headers = { 'x-api-key': apiKey };
let cluster: TestCluster;
jest.setTimeout(120_000);
let gateway: TestGateway;

interface Letter {
  readonly id: string;
  readonly key: string;
  readonly at: string;
  readonly [field: string]: unknown;
}
interface Page {
  readonly items: Letter[];
  readonly nextCursor?: string;
  readonly unreachable?: string[];
}

beforeAll(async () => {
  cluster = await foundTestCluster({ count: 2, collections: ['docs', 'counts'] });
  cluster.replicate();
  await cluster.query(1, `alter table docs add constraint small check ((metadata ->> 'n')::int < 10)`);
  await cluster.query(1, `alter table counts add constraint small check ((metadata ->> 'n')::int < 10)`);
  gateway = await startGateway({
    nodes: cluster.masters,
    cluster: cluster.cluster,
    env: { PGQUORUM_API_KEYS: apiKey },
  });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

const call = (method: string, path: string) => gateway.send(method, path, { headers });
const list = async (query = ''): Promise<Page> =>
  (await call('GET', `/v1/dead-letters${query}`)).body as Page;
const write = (id: string, n: number, collection = 'docs') =>
  cluster.query(
    0,
    `insert into ${collection} values ($1, '[1,2,3]', jsonb_build_object('n', $2::int)) on conflict (id) do update set metadata = excluded.metadata`,
    [id, n],
  );
/** The letter of a write that the second master refuses. */
async function refused(id: string, n = 50): Promise<Letter> {
  await write(id, n);
  await cluster.caughtUp();
  const { items } = await list(`?collection=docs&key=${id}`);
  expect(items).toHaveLength(1);
  return items[0]!;
}
/** What is in the way is taken away for a time. */
async function mended<T>(work: () => Promise<T>): Promise<T> {
  await cluster.query(1, 'alter table docs drop constraint small');
  try {
    return await work();
  } finally {
    await cluster.query(
      1,
      `alter table docs add constraint small check ((metadata ->> 'n')::int < 10) not valid`,
    );
  }
}
const happened = async (key: string): Promise<unknown[]> =>
  (
    await cluster.query<{ body: object }>(
      1,
      `select body from pgquorum.event where type = 'dead-letter' and body ->> 'key' = $1 order by xid, arrival`,
      [key],
    )
  ).map(({ body }) => body);
const alike = async (key: string): Promise<void> => {
  await cluster.caughtUp();
  const [one, two] = (await cluster.states('docs')).map((lines) =>
    lines.filter((line) => line.includes(key)),
  );
  expect(one).not.toEqual([]);
  expect(two).toEqual(one);
};

test('a refused change is kept with its position and all that it carries, shown and counted', async () => {
  const letter = await refused('shown');
  expect(letter).toMatchObject({
    id: expect.stringMatching(/^n2\.\d+$/),
    node: 'n2',
    origin: 'n1',
    log: 'wal',
    lsn: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/),
    collection: 'docs',
    key: 'shown',
    change: expect.stringMatching(/^1\.\d+\.[0-9a-f]{8}$/),
    sqlstate: '23514',
    message: expect.stringContaining('small'),
    tries: 0,
    triedAt: null,
    bytes: expect.any(Number),
  });
  const { body } = await call('GET', `/v1/dead-letters/${letter.id}`);
  expect(body).toMatchObject({
    ...letter,
    payload: {
      operation: 'OPERATION_UPSERT',
      collection: 'docs',
      key: ['shown'],
      version: { origin: 1 },
      row: {
        columns: expect.arrayContaining([
          expect.objectContaining({ name: 'metadata', value: { text: '{"n": 50}' } }),
        ]),
      },
    },
  });
  const health = (await call('GET', '/v1/cluster/health')).body as { problems: string[] };
  expect(health.problems).toContainEqual(expect.stringContaining('dead letters'));
  expect(await happened('shown')).toEqual([
    {
      happened: 'buried',
      letter: letter.id.slice(3),
      origin: 1,
      collection: 'docs',
      key: 'shown',
      sqlstate: '23514',
    },
  ]);
});

test('a letter that is replayed while the trouble stands is kept, with what was found; without it the change is applied and gone', async () => {
  const { id } = await refused('mended');
  const failed = await call('POST', `/v1/dead-letters/${id}/replay`);
  expect(failed).toMatchObject({
    status: 409,
    body: { code: 'replay_failed', failure: 'poison', sqlstate: '23514' },
  });
  expect((await call('GET', `/v1/dead-letters/${id}`)).body).toMatchObject({
    tries: 1,
    triedAt: expect.any(String),
    sqlstate: '23514',
  });
  await mended(async () => {
    expect(await call('POST', `/v1/dead-letters/${id}/replay`)).toMatchObject({
      status: 200,
      body: { id, node: 'n2', collection: 'docs', key: 'mended', outcome: 'written' },
    });
  });
  expect((await cluster.query(1, `select metadata from docs where id = 'mended'`))[0]).toEqual({
    metadata: { n: 50 },
  });
  expect((await list('?key=mended')).items).toEqual([]);
  for (const method of ['POST', 'DELETE'])
    expect(await call(method, `/v1/dead-letters/${id}${method === 'POST' ? '/replay' : ''}`)).toMatchObject({
      status: 404,
      body: { code: 'dead_letter_not_found' },
    });
  expect(await happened('mended')).toMatchObject([
    { happened: 'buried' },
    { happened: 'replayed', by: expect.stringMatching(/^key:sha256:[0-9a-f]{16}$/) },
  ]);
});

test('a change that later versions of its key have seen is replayed as nothing, and one that they have not as a conflict', async () => {
  const overtaken = await refused('overtaken');
  await write('overtaken', 1);
  await cluster.caughtUp();
  expect(await call('POST', `/v1/dead-letters/${overtaken.id}/replay`)).toMatchObject({
    status: 200,
    body: { outcome: 'seen' },
  });
  // The other master writes the key without having seen the letter.
  const beside = await refused('beside');
  await cluster.query(1, `insert into docs values ('beside', '[3,2,1]', '{"n":2}')`);
  await cluster.caughtUp();
  await mended(async () => {
    expect(await call('POST', `/v1/dead-letters/${beside.id}/replay`)).toMatchObject({
      status: 200,
      body: { outcome: 'conflict' },
    });
  });
  await alike('beside');
  const conflicts = await cluster.query(
    1,
    `select state, loser_row ->> 'metadata' as row from pgquorum.conflict where key = 'beside'`,
  );
  expect(conflicts).toEqual([{ state: 'open', row: '{"n": 50}' }]);
});

test('a change that is delivered again is the letter that it was, and two replays at once apply it once', async () => {
  const { id } = await refused('again');
  // As after a crash before progress was written.
  const [{ payload }] = (await cluster.query<{ payload: Buffer }>(
    1,
    `select payload from pgquorum.dead_letter where key = 'again'`,
  )) as [{ payload: Buffer }];
  const { change, ...commit } = changeCodec().decode(payload, 'application/protobuf');
  const session = await ApplySession.open({
    node: cluster.nodes[1]!.address,
    application: 'pgquorum apply test',
    originName: null,
  });
  const reason = { code: 'internal', sqlstate: '23514', message: 'again' };
  await deadLetter(session, 'wal', { change: change as DataChange, commit }, reason);
  await session.close();
  expect((await list('?key=again')).items.map((letter) => letter.id)).toEqual([id]);
  expect(await happened('again')).toMatchObject([{ happened: 'buried' }]);
  await mended(async () => {
    const answers = await Promise.all([1, 2, 3].map(() => call('POST', `/v1/dead-letters/${id}/replay`)));
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 404, 404]);
  });
  expect(await happened('again')).toMatchObject([{ happened: 'buried' }, { happened: 'replayed' }]);
});

test('a replay waits for a user who holds the row, and says so when that takes long', async () => {
  const { id } = await refused('held');
  await cluster.query(1, `insert into docs values ('held', '[1,2,3]', '{"n":3}')`);
  const user = await cluster.client(1);
  await user.query(`begin; select from docs where id = 'held' for update`);
  expect(await call('POST', `/v1/dead-letters/${id}/replay`)).toMatchObject({
    status: 409,
    body: { code: 'replay_failed', failure: 'retry', sqlstate: '55P03' },
  });
  await user.query('rollback');
  await mended(async () => {
    expect(await call('POST', `/v1/dead-letters/${id}/replay`)).toMatchObject({ status: 200 });
  });
});

test('a letter that is discarded is gone, and the event says who did it; the next write of the key makes the masters alike', async () => {
  const { id } = await refused('given up');
  expect(await call('DELETE', `/v1/dead-letters/${id}`)).toMatchObject({ status: 204 });
  expect(await call('GET', `/v1/dead-letters/${id}`)).toMatchObject({ status: 404 });
  expect(await cluster.query(1, `select from docs where id = 'given up'`)).toEqual([]);
  expect(await happened('given up')).toMatchObject([
    { happened: 'buried' },
    { happened: 'discarded', by: expect.stringMatching(/^key:sha256:[0-9a-f]{16}$/) },
  ]);
  await write('given up', 4);
  await cluster.caughtUp();
  expect(await cluster.query(1, `select metadata from docs where id = 'given up'`)).toEqual([
    { metadata: { n: 4 } },
  ]);
});

test('lists are filtered, in pages, newest first', async () => {
  for (let n = 0; n < 5; n += 1) await write(`page ${n}`, 20 + n, 'counts');
  await cluster.caughtUp();
  const all = (await list('?collection=counts')).items;
  expect(all.map(({ key }) => key).toSorted()).toEqual([0, 1, 2, 3, 4].map((n) => `page ${n}`));
  expect(all.map(({ at }) => at)).toEqual(
    all
      .map(({ at }) => at)
      .toSorted()
      .toReversed(),
  );
  const paged: Letter[] = [];
  let cursor: string | undefined;
  do {
    const page = await list(`?collection=counts&limit=2${cursor === undefined ? '' : `&cursor=${cursor}`}`);
    paged.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  expect(paged).toEqual(all);
  const count = async (query: string) => (await list(`?collection=counts&${query}`)).items.length;
  expect(await count('sqlstate=23514')).toBe(5);
  expect(await count('sqlstate=23')).toBe(5);
  expect(await count('sqlstate=22')).toBe(0);
  expect(await count('node=n2&origin=n1')).toBe(5);
  expect(await count('node=n1')).toBe(0);
  expect(await count('origin=n2')).toBe(0);
  expect(await count(`until=${encodeURIComponent(all[2]!.at)}`)).toBe(2);
  expect(await count(`since=${encodeURIComponent(all[2]!.at)}`)).toBe(3);
  for (const [query, code] of [
    ['?colour=red', 'unknown_field'],
    ['?node=nowhere', 'invalid_request'],
    ['?sqlstate=x', 'invalid_request'],
    ['?limit=0', 'invalid_request'],
    ['?cursor=abc', 'invalid_request'],
    ['?since=yesterday', 'invalid_request'],
    ['/x', 'dead_letter_not_found'],
    ['/gone.1', 'dead_letter_not_found'],
    ['/n2.99999999999999999999', 'dead_letter_not_found'],
  ] as const)
    expect((await call('GET', `/v1/dead-letters${query}`)).body).toMatchObject({ code });
});

test('gRPC does the same', async () => {
  using client = new GrpcClient(gateway.gateway.grpcPort, apiKey);
  const { id } = await refused('by gRPC');
  const listed = await client.call('Replication', 'ListDeadLetters', { key: 'by gRPC' });
  expect(listed).toMatchObject({ items: [{ id, node: 'n2', origin: 'n1', sqlstate: '23514' }] });
  const found = (await client.call('Replication', 'GetDeadLetter', { id })) as { payloadJson: string };
  expect(JSON.parse(found.payloadJson)).toMatchObject({ key: ['by gRPC'] });
  await expect(client.call('Replication', 'ReplayDeadLetter', { id })).rejects.toMatchObject({ code: 9 });
  await mended(async () => {
    expect(await client.call('Replication', 'ReplayDeadLetter', { id })).toMatchObject({
      outcome: 'written',
    });
  });
  await expect(client.call('Replication', 'DiscardDeadLetter', { id })).rejects.toMatchObject({ code: 5 });
  await alike('by gRPC');
});
