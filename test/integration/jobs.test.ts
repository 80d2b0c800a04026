/** Jobs on a real Postgres: what becomes of one, whoever runs it and whatever ends its runner. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals';
import { projectRoot } from '#core/config/project-root.files.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Job, JobHandle, JobWork } from '#core/jobs/job.ts';
import { runJobs } from '#core/jobs/runner.pg.ts';
import { cancelJob, forgetJobs, readJob, startJob } from '#core/jobs/store.pg.ts';
import { foundTestCluster, listeningLogger, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { steps, stepsTable } from './jobs/steps.ts';

jest.setTimeout(120_000);

let cluster: TestCluster;
const stops: (() => Promise<void>)[] = [];

beforeAll(async () => {
  cluster = await foundTestCluster({ count: 1 });
  await cluster.query(0, stepsTable);
}, 120_000);

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

afterAll(() => cluster[Symbol.asyncDispose]());

const db = {
  query: (text: string, values?: unknown[]) =>
    cluster.query(0, text, values).then((rows) => ({ rows, rowCount: rows.length })),
} as unknown as Parameters<typeof readJob>[0];

const start = (kind: string, given: unknown = {}) => startJob(db, { kind, arguments: given });
const job = async (id: string): Promise<Job> => (await readJob(db, id))!;
const reaches = (id: string, state: Job['state']): Promise<Job> =>
  eventually(`job ${id} is ${state}`, async () => {
    const found = await job(id);
    return found.state === state ? found : null;
  });

/** A runner in this process; returns what stops it. */
function run(works: Record<string, JobWork>, atOnceMax = 2): () => Promise<void> {
  const abort = new AbortController();
  const home = cluster.nodes[0]!;
  const done = runJobs(
    { home, nodes: [home], works, atOnceMax, logger: listeningLogger().logger },
    abort.signal,
  );
  const stop = async (): Promise<void> => {
    abort.abort();
    await done;
  };
  stops.push(stop);
  return stop;
}

const untilAborted = (handle: JobHandle): Promise<never> =>
  new Promise((_resolve, reject) => {
    handle.signal.addEventListener('abort', () => reject(new Error('told to end')), { once: true });
  });

test('a job shows its progress, and its result when it is done', async () => {
  const half = Promise.withResolvers<void>();
  run({
    halves: async (handle, { home, nodes }) => {
      await handle.report({ done: 1, total: 2, unit: 'halves' });
      await half.promise;
      return { given: handle.arguments, home: home.name, nodes: nodes.length };
    },
  });
  const asked = await start('halves', { a: [1] });
  expect(asked).toMatchObject({ state: 'waiting', progress: { done: 0, total: null } });
  await eventually('its progress is shown', async () => (await job(asked.id)).progress.done === 1);
  expect(await job(asked.id)).toMatchObject({
    state: 'running',
    progress: { done: 1, total: 2, unit: 'halves' },
  });
  half.resolve();
  expect(await reaches(asked.id, 'done')).toMatchObject({
    result: { given: { a: [1] }, home: 'n1', nodes: 1 },
    error: null,
  });
});

test('a job that can not be done ends with the code of its error, and shows no values of a database', async () => {
  run({
    refused: () => Promise.reject(new PgquorumError('collection_not_found', 'collection gone')),
    database: async () => {
      await cluster.query(0, `select 'a secret value'::integer`);
    },
    bug: () => Promise.reject(new TypeError('secret is undefined')),
  });
  const [refused, database, bug] = [await start('refused'), await start('database'), await start('bug')];
  expect((await reaches(refused.id, 'failed')).error).toEqual({
    code: 'collection_not_found',
    detail: 'collection gone',
  });
  const { error } = await reaches(database.id, 'failed');
  expect(error).toEqual({ code: 'internal', detail: expect.stringContaining('SQLSTATE 22P02') });
  expect(JSON.stringify([error, (await reaches(bug.id, 'failed')).error])).not.toContain('secret');
});

test('what may pass by itself is tried again from the checkpoint, after a pause, and is shown meanwhile', async () => {
  const begun: unknown[] = [];
  run({
    flaky: async (handle) => {
      begun.push(handle.checkpoint);
      if (begun.length === 1) await handle.report({ done: 7, unit: 'rows' }, { row: 7 });
      if (begun.length < 3) throw new PgquorumError('node_unreachable', 'node n9: no connection');
    },
  });
  const { id } = await start('flaky');
  const seen = await eventually('it waits', async () => {
    const found = await job(id);
    return found.failures === 2 ? found : null;
  });
  expect(seen).toMatchObject({
    state: 'waiting',
    error: { code: 'node_unreachable', detail: 'node n9: no connection' },
  });
  expect(await reaches(id, 'done')).toMatchObject({ error: null, progress: { done: 7, unit: 'rows' } });
  expect(begun).toEqual([null, { row: 7 }, { row: 7 }]);
});

test('what does not pass within its time ends as failed', async () => {
  run({ flaky: () => Promise.reject(new PgquorumError('node_unreachable', 'node n9: no connection')) });
  const { id } = await start('flaky');
  await eventually('it failed once', async () => (await job(id)).failures >= 1);
  await cluster.query(
    0,
    `update pgquorum.job set failing_since = clock_timestamp() - interval '2 hours' where id = $1`,
    [id],
  );
  expect((await reaches(id, 'failed')).error?.code).toBe('node_unreachable');
});

test('cancelling ends a waiting job at once and reaches a running one; one that has ended stays as it is', async () => {
  const waiting = await start('forever');
  expect(await cancelJob(db, waiting.id)).toMatchObject({ state: 'cancelled' });
  run({ forever: untilAborted, quick: async () => 'done' });
  const { id } = await start('forever');
  await reaches(id, 'running');
  expect(await cancelJob(db, id)).toMatchObject({ state: 'running', cancelRequested: true });
  expect(await reaches(id, 'cancelled')).toMatchObject({ error: null });
  expect(await cancelJob(db, id)).toMatchObject({ state: 'cancelled' });
  const quick = await start('quick');
  await reaches(quick.id, 'done');
  await expect(cancelJob(db, quick.id)).rejects.toMatchObject({ code: 'job_finished' });
  expect(await job(waiting.id)).toMatchObject({ state: 'cancelled' });
});

test('a job whose cancelling its runner did not live to see is cancelled by the next one', async () => {
  const { id } = await start('forever');
  await cluster.query(0, `update pgquorum.job set state = 'running', cancel_requested = true where id = $1`, [
    id,
  ]);
  let begun = 0;
  run({ forever: (handle) => ((begun += 1), untilAborted(handle)) });
  await reaches(id, 'cancelled');
  expect(begun).toBe(0);
});

test('a job that has something to take back is run for it when it is cancelled, running or waiting, until it is done', async () => {
  const took: unknown[] = [];
  let fails = true;
  const work: JobWork = async (handle) => {
    if (!handle.takesBack) {
      await handle.report({ done: 1, unit: 'steps' }, { step: 1 });
      return untilAborted(handle);
    }
    took.push(handle.checkpoint);
    if (fails) {
      fails = false;
      throw new PgquorumError('node_unreachable', 'node n9: no connection');
    }
    return 'nothing is left';
  };
  const waiting = await startJob(db, { kind: 'two-sided', arguments: {}, takesBack: true });
  expect(await cancelJob(db, waiting.id)).toMatchObject({ state: 'waiting', cancelRequested: true });
  const stop = run({ 'two-sided': work });
  expect(await reaches(waiting.id, 'cancelled')).toMatchObject({ error: null, result: null });
  expect(took).toEqual([null, null]);
  const { id } = await startJob(db, { kind: 'two-sided', arguments: {}, takesBack: true });
  await eventually('it has begun', async () => (await job(id)).progress.done === 1);
  expect(await cancelJob(db, id)).toMatchObject({ state: 'running', cancelRequested: true });
  expect(await reaches(id, 'cancelled')).toMatchObject({ error: null, result: null });
  expect(took).toEqual([null, null, { step: 1 }]);
  await stop();
});

test('before what can not be taken back either cancelling is refused or the work ends, never both or neither', async () => {
  const gate = Promise.withResolvers<void>();
  let beyond = 0;
  run({
    last: async (handle) => {
      if (handle.takesBack) return;
      if ((handle.arguments as { waits: boolean }).waits) await gate.promise;
      await handle.reportLast({ done: 1, unit: 'steps' }, { step: 'last' });
      beyond += 1;
      if (!(handle.arguments as { waits: boolean }).waits) await gate.promise;
    },
  });
  const early = await startJob(db, { kind: 'last', arguments: { waits: true }, takesBack: true });
  const late = await startJob(db, { kind: 'last', arguments: { waits: false }, takesBack: true });
  await reaches(early.id, 'running');
  await eventually('one is beyond it', () => Promise.resolve(beyond === 1));
  await cancelJob(db, early.id);
  await expect(cancelJob(db, late.id)).rejects.toMatchObject({ code: 'job_irrevocable' });
  gate.resolve();
  await reaches(early.id, 'cancelled');
  await reaches(late.id, 'done');
  expect(beyond).toBe(1);
});

test('two runners share the work, run no job twice, and no more at once than each may', async () => {
  const runs = new Map<string, number>();
  const now = [0, 0];
  let most = 0;
  const works = (runner: number): Record<string, JobWork> => ({
    brief: async ({ id }) => {
      runs.set(id, (runs.get(id) ?? 0) + 1);
      now[runner]! += 1;
      most = Math.max(most, ...now);
      await cluster.query(0, 'select pg_sleep(0.05)');
      now[runner]! -= 1;
    },
  });
  const ids: string[] = [];
  for (let at = 0; at < 8; at++) ids.push((await start('brief')).id);
  run(works(0));
  run(works(1));
  for (const id of ids) await reaches(id, 'done');
  expect([...runs.values()]).toEqual(ids.map(() => 1));
  expect(most).toBeLessThanOrEqual(2);
});

test('a runner that stops leaves its job to the next one, which goes on from the checkpoint', async () => {
  const stop = run({ steps });
  const { id } = await start('steps', { to: 12, pauseMs: 50 });
  await eventually('it has begun', async () => (await job(id)).progress.done >= 3);
  await stop();
  expect(await job(id)).toMatchObject({ state: 'waiting', failures: 0 });
  run({ steps });
  await reaches(id, 'done');
  await expectResumed(id, 12, 1);
});

test('a runner that loses its connection is told, and the job is taken up again', async () => {
  let begun = 0;
  const ended: unknown[] = [];
  run({
    once: async (handle) => {
      begun += 1;
      if (begun > 1) return;
      await untilAborted(handle).catch((cause: unknown) => ended.push(cause));
      await handle.report({ done: 1, unit: 'steps' }, { at: 1 });
    },
  });
  const { id } = await start('once');
  await reaches(id, 'running');
  await cluster.query(
    0,
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1`,
    [`pgquorum job ${id}`],
  );
  await reaches(id, 'done');
  expect(begun).toBe(2);
  expect(ended).toHaveLength(1);
  expect(await cluster.query(0, 'select checkpoint from pgquorum.job where id = $1', [id])).toEqual([
    { checkpoint: null },
  ]);
});

test('a runner whose process is killed half-way is replaced, and no more than the step it was at is done twice', async () => {
  const child = await startProcess();
  const { id } = await start('steps', { to: 100, pauseMs: 20 });
  await eventually('it is half-way', async () => (await job(id)).progress.done >= 5);
  const second = await startProcess();
  child.kill('SIGKILL');
  await reaches(id, 'done');
  await expectResumed(id, 100, 2);
  second.kill('SIGKILL');
});

test('a runner that freezes loses its job to another one, and does no more than the step that it was at when it wakes', async () => {
  const frozen = await startProcess();
  const { id } = await start('steps', { to: 150, pauseMs: 20 });
  await eventually('it is under way', async () => (await job(id)).progress.done >= 5);
  frozen.kill('SIGSTOP');
  const second = await startProcess();
  const stepsOf = async (pid: number): Promise<number[]> =>
    (
      await cluster.query<{ number: number }>(
        0,
        'select number from step where job = $1 and pid = $2 order by 1',
        [id, pid],
      )
    ).map((row) => row.number);
  await eventually('another one goes on', async () => (await stepsOf(second.pid!)).length > 0, {
    withinMs: 60_000,
  });
  const before = (await stepsOf(frozen.pid!)).length;
  frozen.kill('SIGCONT');
  await eventually('the job is done', async () => (await job(id)).state === 'done', { withinMs: 60_000 });
  expect((await stepsOf(frozen.pid!)).length).toBeLessThanOrEqual(before + 1);
  await expectResumed(id, 150, 2);
  // It has noticed, and is a runner like any other.
  second.kill('SIGKILL');
  const next = await start('steps', { to: 1, pauseMs: 0 });
  await reaches(next.id, 'done');
  expect(await cluster.query(0, 'select pid from step where job = $1', [next.id])).toEqual([
    { pid: frozen.pid },
  ]);
}, 180_000);

test('a job that ends its runners again and again without a step forward is given up', async () => {
  const { id } = await start('steps', { to: 1, pauseMs: 0 });
  await cluster.query(0, `update pgquorum.job set state = 'running', deaths = 10 where id = $1`, [id]);
  run({ steps });
  expect((await reaches(id, 'failed')).error?.code).toBe('job_abandoned');
  expect(await cluster.query(0, 'select from step where job = $1', [id])).toEqual([]);
});

test('jobs of a kind that a runner does not know wait for one that does', async () => {
  run({ other: async () => null });
  const known = await start('other');
  const unknown = await start('unheard-of');
  await reaches(known.id, 'done');
  expect(await job(unknown.id)).toMatchObject({ state: 'waiting' });
  await cancelJob(db, unknown.id);
});

test('jobs that have ended are forgotten after their time and beyond their number, others never', async () => {
  await cluster.query(0, 'delete from pgquorum.job');
  const waiting = await start('unheard-of');
  await cluster.query(
    0,
    `insert into pgquorum.job (kind, arguments, progress, state, updated_at)
     select 'old', 'null', '{}', s, clock_timestamp() - n * interval '1 hour' from generate_series(1, 4) n, unnest('{done,failed,cancelled}'::text[]) s`,
  );
  await cluster.query(0, `update pgquorum.job set updated_at = '2020-01-01' where id = $1`, [waiting.id]);
  const left = async (): Promise<number> =>
    Number((await cluster.query<{ n: string }>(0, 'select count(*) as n from pgquorum.job'))[0]!.n);
  await forgetJobs(db, { keptMs: 3.5 * 3_600_000, keptMax: 100 });
  expect(await left()).toBe(1 + 9);
  await forgetJobs(db, { keptMs: 86_400_000, keptMax: 4 });
  expect(await left()).toBe(1 + 4);
  expect(await cluster.query(0, `select from pgquorum.job where state = 'waiting'`)).toHaveLength(1);
});

/** Every step was done, by two that followed each other; at most the one at which the first was cut off twice. */
async function expectResumed(id: string, to: number, processes: number): Promise<void> {
  const rows = await cluster.query<{ number: number; pid: number; began_at: number }>(
    0,
    'select number, pid, began_at from step where job = $1',
    [id],
  );
  expect(new Set(rows.map((row) => row.number)).size).toBe(to);
  expect(rows.length).toBeLessThanOrEqual(to + 1);
  const begun = [...new Set(rows.map((row) => row.began_at))];
  expect(begun).toHaveLength(2);
  expect(Math.max(...begun)).toBeGreaterThanOrEqual(3);
  expect(new Set(rows.map((row) => row.pid)).size).toBe(processes);
}

async function startProcess(): Promise<ChildProcess> {
  const child = spawn(
    join(projectRoot, 'node_modules/.bin/node'),
    [join(projectRoot, 'test/integration/jobs/runner.ts'), JSON.stringify(cluster.nodes[0]!.address)],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { PATH: process.env['PATH'] } },
  );
  await once(child, 'spawn');
  stops.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  });
  return child;
}
