/** One statement on all masters: what is taken, in what order it runs, and what becomes of it when something is in the way. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { INestApplicationContext } from '@nestjs/common';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import pg from 'pg';
import type { JobView } from '#core/jobs/job.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { startMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

jest.setTimeout(120_000);

const places = [0, 1, 2];
let masters: Masters;
let gateway: TestGateway;
let replicator: INestApplicationContext | null = null;

const replicate = async (): Promise<void> => {
  replicator = await startReplicator(
    settingsFor(masters.nodes, 'ddl', { PGQUORUM_HEARTBEAT_INTERVAL_MS: '100' }),
    createLogger({ app: 'test', level: 'silent' }),
  );
};
const stopReplicator = async (): Promise<void> => {
  await replicator?.close();
  replicator = null;
};

beforeAll(async () => {
  masters = await startMasters({ count: 3 });
  gateway = await startGateway({ nodes: masters.nodes, cluster: 'ddl' });
  await replicate();
}, 120_000);

afterAll(async () => {
  await stopReplicator();
  await gateway[Symbol.asyncDispose]();
  await masters[Symbol.asyncDispose]();
});

const everywhere = <R extends pg.QueryResultRow>(text: string): Promise<R[][]> =>
  Promise.all(places.map((place) => gateway.sql<R>(place, text)));

async function create(name: string): Promise<void> {
  const body = { dimension: 3, index: { type: 'none' } };
  expect((await gateway.send('PUT', `/v1/collections/${name}`, { body })).status).toBe(201);
}

const ask = (name: string, statement: unknown) =>
  gateway.send('POST', `/v1/collections/${name}/ddl`, { body: { statement } });

async function start(name: string, statement: string): Promise<string> {
  const answer = await ask(name, statement);
  expect(answer).toMatchObject({ status: 202 });
  return (answer.body as { job: { id: string } }).job.id;
}

const job = async (id: string): Promise<JobView> =>
  (await gateway.send('GET', `/v1/jobs/${id}`)).body as JobView;

const ends = (id: string): Promise<JobView> =>
  eventually(
    'the job has ended',
    async () => {
      const found = await job(id);
      return ['done', 'failed', 'cancelled'].includes(found.state) ? found : null;
    },
    { withinMs: 60_000 },
  );

async function run(name: string, statement: string): Promise<JobView> {
  const ended = await ends(await start(name, statement));
  if (ended.state !== 'done') throw new Error(JSON.stringify(ended));
  return ended;
}

/** Names and types of the columns on each master. */
const columns = async (name: string): Promise<string[]> =>
  (
    await everywhere<{ all: string }>(
      `select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attname) as all from pg_attribute where attrelid = 'public.${name}'::regclass and attnum > 0 and not attisdropped`,
    )
  ).map(([row]) => row!.all);

/** Rows and versions are the same everywhere, nothing waits, nothing was given up. */
async function settles(name: string): Promise<Record<string, unknown>[]> {
  const state = async (place: number): Promise<string> =>
    JSON.stringify([
      await gateway.sql(place, `select to_jsonb(t) from ${name} t order by id`),
      await gateway.sql(
        place,
        `select id, hlc, origin, counter, deleted from pgquorum.version_${name} order by id`,
      ),
    ]);
  await eventually(
    `${name} is the same everywhere`,
    async () => {
      for (const table of ['pause', 'parked'])
        if ((await everywhere(`select from pgquorum.${table}`)).some((rows) => rows.length > 0)) return false;
      return new Set(await Promise.all(places.map(state))).size === 1;
    },
    { withinMs: 50_000, everyMs: 100 },
  );
  expect(await everywhere('select key, message from pgquorum.dead_letter')).toEqual([[], [], []]);
  return gateway.sql(0, `select * from ${name} order by id`);
}

/** Users who write on every master all the while, by statements that any shape of the table takes. */
async function whileWriting<T>(name: string, work: () => Promise<T>): Promise<T> {
  let over = false;
  const writers = places.map(async (place) => {
    const client = new pg.Client(masters.nodes[place]!.url);
    await client.connect();
    let at = 0;
    for (; !over; at++) {
      await client.query(
        `insert into ${name} (id, embedding, metadata) values ($1, '[1,2,3]', '{}') on conflict (id) do update set metadata = jsonb_build_object('at', $2::int)`,
        [`${place}-${at % 20}`, at],
      );
      await sleep(20);
      if (at % 7 === 0) await client.query(`delete from ${name} where id = $1`, [`${place}-${at % 20}`]);
    }
    await client.end();
    return at;
  });
  try {
    return await work();
  } finally {
    over = true;
    for (const written of await Promise.all(writers)) expect(written).toBeGreaterThan(5);
  }
}

test('statements that break keys, versions or the sameness of masters are refused before anything runs', async () => {
  await create('docs');
  const before = await columns('docs');
  for (const [statement, why] of [
    ['alter table others add a text', 'public.docs'],
    ['alter table pg_catalog.docs add a text', 'public.docs'],
    ['alter table docs rename id to key', 'in the key'],
    ['alter table docs alter id type varchar(100)', 'in the key'],
    ['alter table docs drop id', 'in the key'],
    ['alter table docs drop embedding', 'embedding'],
    ['alter table docs alter embedding type vector(4)', 'embedding'],
    ['alter table docs rename metadata to data', 'metadata'],
    ['alter table docs drop constraint docs_pkey', 'docs_pkey'],
    ['alter table docs add n serial', 'constant'],
    ['alter table docs add n int generated by default as identity', 'identity'],
    ['alter table docs add n uuid default gen_random_uuid()', 'constant'],
    ['alter table docs add n int unique', 'unique'],
    ['alter table docs add n int not null', 'default'],
    ['alter table docs add n int references docs2 (id)', 'docs2'],
    ['alter table docs add n no_such_type', 'no_such_type'],
    ['alter table docs drop nothing', 'nothing'],
    ['create index by_nothing on docs (nothing)', 'nothing'],
    ['drop index docs_pkey', 'constraint'],
    ['drop index nothing', 'nothing'],
    ['drop table docs', 'alter table'],
    ['alter table docs add a text; drop table docs', 'one statement'],
  ])
    expect({ statement, answer: await ask('docs', statement) }).toMatchObject({
      statement,
      answer: { status: 400, body: { code: 'ddl_refused', detail: expect.stringContaining(why!) } },
    });
  expect((await ask('nothing', 'alter table nothing add a text')).body).toMatchObject({
    code: 'collection_not_found',
  });
  expect((await ask('docs', 1)).body).toMatchObject({ code: 'invalid_request' });
  expect(await columns('docs')).toEqual(before);
  expect(await gateway.sql(0, 'select from pgquorum.ddl')).toEqual([]);
});

test('while users write on every master a column is added, filled, retyped, renamed and dropped, and all masters agree', async () => {
  await create('busy');
  const steps: readonly (readonly [string, string])[] = [
    ['alter table busy add n integer not null default 7', 'n integer'],
    ['alter table busy alter n type bigint', 'n bigint'],
    ['alter table busy rename n to m', 'm bigint'],
    ['alter table busy add lang text, alter m set default 8', 'lang text'],
  ];
  await whileWriting('busy', async () => {
    for (const [statement, column] of steps) {
      const ended = await run('busy', statement);
      expect(ended).toMatchObject({
        progress: { done: 3, total: 3, unit: 'nodes' },
        result: { collection: 'busy', statement, nodes: ['n1', 'n2', 'n3'] },
      });
      for (const found of await columns('busy')) expect(found).toContain(column);
    }
    await gateway.sql(1, `insert into busy (id, lang) values ('kept', 'en')`);
  });
  const rows = await settles('busy');
  expect(rows.find(({ id }) => id === 'kept')).toMatchObject({ lang: 'en', m: '8' });
  await whileWriting('busy', () => run('busy', 'alter table busy drop lang, drop m'));
  for (const row of await settles('busy'))
    expect(Object.keys(row).toSorted()).toEqual(['embedding', 'id', 'metadata']);
  expect(await everywhere('select count(*)::int as n from pgquorum.ddl')).toEqual([
    [{ n: 5 }],
    [{ n: 5 }],
    [{ n: 5 }],
  ]);
}, 120_000);

test('a table that somebody holds on one master is altered on none until it is free; cancelling leaves it as it was', async () => {
  await create('held');
  const holder = new pg.Client(masters.nodes[2]!.url);
  await holder.connect();
  await holder.query('begin; lock table held in access share mode');
  const cancelled = await start('held', 'alter table held add never text');
  await eventually('it runs', async () => (await job(cancelled)).state === 'running');
  expect((await gateway.send('DELETE', `/v1/jobs/${cancelled}`)).status).toBe(202);
  expect((await ends(cancelled)).state).toBe('cancelled');
  const id = await start('held', 'alter table held add n integer');
  await eventually('it waits for the lock', async () => {
    const waits = await gateway.sql(
      2,
      `select from pg_stat_activity where application_name = 'pgquorum ddl' and wait_event_type = 'Lock'`,
    );
    return waits.length > 0;
  });
  // The others are not held up for longer than a try takes.
  await gateway.sql(0, `insert into held (id) values ('meanwhile')`);
  expect((await columns('held')).some((found) => found.includes('n integer'))).toBe(false);
  await holder.query('rollback');
  await holder.end();
  expect((await ends(id)).state).toBe('done');
  expect(new Set(await columns('held'))).toEqual(
    new Set(['embedding vector(3), id text, metadata jsonb, n integer']),
  );
}, 120_000);

test('a statement that rows refuse stands nowhere, and says on which masters without showing the rows', async () => {
  await create('texts');
  await run('texts', 'alter table texts add n text');
  await gateway.sql(0, `insert into texts (id, n) values ('a', 'a secret')`);
  await settles('texts');
  const ended = await ends(await start('texts', 'alter table texts alter n type integer using n::integer'));
  expect(ended).toMatchObject({
    state: 'failed',
    error: {
      code: 'ddl_failed',
      detail: expect.stringMatching(/^n1: rows there are in the way \(SQLSTATE 22P02\); n2: .*; n3: /),
    },
  });
  expect(JSON.stringify(ended.error)).not.toContain('secret');
  for (const found of await columns('texts')) expect(found).toContain('n text');
});

test('indexes are made and dropped on every master, one that was cut off is made anew, and one that rows refuse leaves nothing', async () => {
  await create('indexed');
  await run('indexed', 'alter table indexed add n integer');
  await gateway.sql(0, `insert into indexed (id, n) select 'k' || i, i % 2 from generate_series(1, 4) i`);
  await settles('indexed');
  const indexes = () =>
    everywhere<{ indexrelid: string }>(
      `select indexrelid::regclass::text, indisvalid from pg_index where indrelid = 'indexed'::regclass and not indisprimary order by 1`,
    );
  const both = (name: string) => places.map(() => [{ indexrelid: name, indisvalid: true }]);
  await whileWriting('indexed', () => run('indexed', 'create index by_n on indexed (n)'));
  expect(await indexes()).toEqual(both('by_n'));
  await run('indexed', 'create index if not exists by_n on indexed (n)');
  expect(await ends(await start('indexed', 'create index by_n on indexed (n)'))).toMatchObject({
    state: 'failed',
    error: { code: 'ddl_failed', detail: 'n1 has an index by_n already' },
  });
  const refused = await ends(await start('indexed', 'create unique index once on indexed (n)'));
  expect(refused.error).toEqual({
    code: 'ddl_failed',
    detail: 'n1: rows there are in the way (SQLSTATE 23505)',
  });
  expect(await indexes()).toEqual(both('by_n'));
  await run('indexed', 'drop index by_n');
  expect(await indexes()).toEqual([[], [], []]);
  // What a runner leaves that is killed in the middle of a build.
  await stopReplicator();
  const id = await start('indexed', 'create index again on indexed (n)');
  for (const place of places)
    await gateway.sql(place, `update pgquorum.job set checkpoint = '{"begun": ["n1", "n2"]}' where id = $1`, [
      id,
    ]);
  await gateway.sql(0, 'create index again on indexed (n)');
  await gateway.sql(1, 'create unique index concurrently again on indexed (n)').catch((cause: unknown) => {
    expect((cause as { code: string }).code).toBe('23505');
  });
  await replicate();
  expect((await ends(id)).state).toBe('done');
  expect(await indexes()).toEqual(both('again'));
}, 120_000);

test('a statement that was committed on one master only is finished on the others by the next runner', async () => {
  await create('half');
  await stopReplicator();
  const id = await start('half', 'alter table half add n integer default 3');
  // As the first of the commits leaves it.
  await gateway.sql(0, 'alter table half add n integer default 3');
  await gateway.sql(0, `insert into pgquorum.ddl (job, collection, statement) values ($1, 'half', 'x')`, [
    id,
  ]);
  await gateway.sql(0, `insert into half (id, n) values ('a', 4)`);
  await gateway.sql(1, `insert into half (id) values ('b')`);
  await replicate();
  expect((await ends(id)).state).toBe('done');
  expect(await settles('half')).toMatchObject([
    { id: 'a', n: 4 },
    { id: 'b', n: 3 },
  ]);
}, 120_000);

test('while a master is down nothing is altered anywhere; the job says so, and goes on when it is back', async () => {
  await create('down');
  await masters.nodes[2]!.kill9();
  const id = await start('down', 'alter table down add n integer');
  const waiting = await eventually('it waits', async () => {
    const found = await job(id);
    return found.error === undefined ? null : found;
  });
  expect(waiting).toMatchObject({
    error: { code: 'replicas_unavailable', detail: expect.stringContaining('n3') },
  });
  for (const place of [0, 1])
    expect(
      await gateway.sql(
        place,
        `select from pg_attribute where attrelid = 'down'::regclass and attname = 'n'`,
      ),
    ).toEqual([]);
  await masters.nodes[2]!.start();
  expect((await ends(id)).state).toBe('done');
  await gateway.sql(2, `insert into down (id, n) values ('a', 1)`);
  expect(await settles('down')).toMatchObject([{ id: 'a', n: 1 }]);
}, 90_000);

test('gRPC has the same verb', async () => {
  await create('rpc');
  using client = new GrpcClient(gateway.gateway.grpcPort);
  const started = await client.call('Collections', 'Ddl', {
    name: 'rpc',
    statement: 'alter table rpc add n integer',
  });
  expect(started).toMatchObject({ kind: 'ddl' });
  expect((await ends(started['id'] as string)).state).toBe('done');
  await expect(
    client.call('Collections', 'Ddl', { name: 'rpc', statement: 'drop table rpc' }),
  ).rejects.toThrow('alter table');
});
