/**
 * The fourth master comes and goes while all else goes on: it joins since all processes list it from their next start on, leaves when it is asked to, and joins again as
 * a new database when it is asked to, with a new number. Requests go through the gateways until they are answered, and jobs that end otherwise are asked for again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isConnectionError } from '#core/postgres/sqlstate.ts';
import { isLost } from '../convergence/writer.ts';
import { mixedCollections, query, type Scene } from './scene.ts';

const lookEveryMs = 300;
/** Without any sign of progress: a busy machine takes long, but goes on. */
const stuckMs = 180_000;

export interface ComingAndGoing {
  readonly scene: Scene;
  readonly random: () => number;
  readonly gateway: () => string;
  readonly say: (line: string) => void;
  /** Resolves once nobody writes on the fourth master any more. */
  readonly stopWriters: () => Promise<void>;
  readonly startWriters: () => void;
  /** Node name -> number. */
  readonly numbers: Map<string, number>;
  readonly signal: AbortSignal;
}

/** What a look at something gives: whether it is over, and what changes as long as it goes on. */
interface Look {
  readonly over: boolean;
  readonly sign: string;
}

/** Until the fourth master has joined, left and joined again. Ends early when the test has failed. */
export async function comeAndGo(options: ComingAndGoing): Promise<void> {
  const { scene, say, signal } = options;
  await hasJoined(options, 'has joined');
  options.startWriters();
  await sleep(3000, undefined, { signal });
  scene.isChanging = true;
  await leave(options);
  await options.stopWriters();
  scene.hasLeft();
  await clear(scene);
  say('n4 has left');
  await comeBack(options);
  scene.isChanging = false;
  options.startWriters();
}

async function until(what: string, signal: AbortSignal, look: () => Promise<Look>): Promise<void> {
  let sign = '';
  for (let at = performance.now(); ;) {
    signal.throwIfAborted();
    const seen = await look();
    if (seen.over) return;
    if (seen.sign !== sign) at = performance.now();
    sign = seen.sign;
    if (performance.now() - at > stuckMs)
      throw new Error(`${what}: nothing has changed for ${stuckMs} ms: ${sign}`);
    await sleep(lookEveryMs);
  }
}

const hasJoined = (
  { scene, say, numbers, signal }: ComingAndGoing,
  what: string,
  ask?: () => Promise<string>,
) =>
  until(`n4 ${what}`, signal, async () => {
    const place = await scene.joining();
    if (place !== null) numbers.set('n4', place.number);
    if (place?.joining === false) {
      say(`n4 ${what} as number ${place.number}`);
      return { over: true, sign: '' };
    }
    return { over: false, sign: place === null ? ((await ask?.()) ?? 'not registered') : place.copied };
  });

/** With Kafka its topic goes with it, or stays and is written by the next node of the name. */
async function leave({ scene, random, gateway, signal }: ComingAndGoing): Promise<void> {
  const topics = scene.broker !== null && random() < 0.5 ? '?topics=delete' : '';
  await until('n4 leaves', signal, async () => {
    const gone = await query<{ gone: boolean }>(
      scene.masters[3]!,
      `select to_regnamespace('pgquorum') is null as gone`,
    ).catch(passing);
    const job = await lastJob(gateway(), 'remove-replica');
    if (gone?.[0]?.gone === true && job?.state === 'done') return { over: true, sign: '' };
    if (job === null || job.state === 'failed')
      await send(gateway(), 'DELETE', `/v1/replication/replicas/n4${topics}`);
    return { over: false, sign: JSON.stringify(job) };
  });
}

async function comeBack(options: ComingAndGoing): Promise<void> {
  const { scene, gateway } = options;
  const { name, url, zone } = scene.masters[3]!;
  scene.comesBack();
  await hasJoined(options, 'has joined again', async () => {
    const job = await lastJob(gateway(), 'add-replica');
    if (job === null || job.state === 'failed')
      await send(gateway(), 'POST', '/v1/replication/replicas', { name, url, zone });
    return JSON.stringify(job);
  });
}

/** What it left are plain tables: a new database would not have them, but for that of the application. */
async function clear(scene: Scene): Promise<void> {
  const { rows, alone, counted, attached } = mixedCollections;
  for (;;) {
    const done = await query(
      scene.masters[3]!,
      `drop table public.${rows}, public.${alone}, public.${counted}; truncate public.${attached}`,
    ).catch(passing);
    if (done !== null) return;
    await sleep(lookEveryMs);
  }
}

/** The master is being restarted. */
function passing(error: unknown): null {
  if (isConnectionError(error)) return null;
  throw error;
}

interface JobBody {
  readonly id: string;
  readonly state: string;
  readonly progress: object;
}

/** Null when there is none; what can not be told says so instead of a state. */
async function lastJob(gateway: string, kind: string): Promise<Pick<JobBody, 'state'> | null> {
  const answer = await send(gateway, 'GET', `/v1/jobs?kind=${kind}&limit=1`);
  if (answer === null) return { state: 'not known' };
  const { items, unreachable } = answer as { items: JobBody[]; unreachable?: string[] };
  return items[0] ?? (unreachable === undefined ? null : { state: `not known at ${unreachable.join(', ')}` });
}

/** Null when nobody answers, or not now. */
async function send(gateway: string, method: string, path: string, body?: object): Promise<unknown> {
  try {
    const response = await fetch(`${gateway}${path}`, {
      method,
      ...(body === undefined
        ? {}
        : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
    const answer = await response.text();
    if (response.ok) return JSON.parse(answer) as unknown;
    // 409: another job of the kind has begun, or a collection is being changed.
    if (response.status >= 500 || response.status === 409) return null;
    throw new Error(`${method} ${path}: ${response.status} ${answer}`);
  } catch (error) {
    if (isLost(error)) return null;
    throw error;
  }
}
