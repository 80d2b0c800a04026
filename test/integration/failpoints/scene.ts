/**
 * Masters with replicators as processes, of which each dies by SIGKILL where a failpoint says so and is started again, while users write. What was
 * acknowledged meanwhile is kept in a ledger, against which all masters are held in the end.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from '@jest/globals';
import type { NodeAddress } from '#core/config/settings.ts';
import type { Failpoint } from '#core/faults/failpoint.process.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import type { TestNode } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Prng } from '../../simulation/prng.ts';
import { convergedMasters } from '../convergence/compare.ts';
import { Ledger } from '../convergence/ledger.ts';
import { AppProcess } from '../convergence/processes.ts';
import { readFinal, withClient } from '../convergence/states.ts';
import { RandomWriter } from '../convergence/writer.ts';

export const definition = {
  dimension: 8,
  metric: 'cosine',
  vectorType: 'vector',
  shards: 4,
  writes: 'any',
  conflicts: { strategy: 'lww' },
  index: { type: 'none' },
} as const;

/** A process that may take that long to come to its failpoint is not one that never does. */
const diesWithinMs = 150_000;
const writePauseMs = 10;

interface App {
  readonly process: AppProcess;
  readonly logFile: string;
}

export class Scene implements AsyncDisposable {
  readonly masters: readonly TestNode[];
  readonly cluster: string;
  readonly reached = new Set<Failpoint>();
  readonly ledger = new Ledger();
  readonly #fresh: FreshNodes;
  readonly #env: Readonly<Record<string, string>>;
  readonly #folder = mkdtempSync(join(tmpdir(), 'pgquorum-failpoints-'));
  readonly #apps: App[] = [];
  #writing: { readonly stop: () => Promise<number> } | null = null;

  static async open(count: number, env: Readonly<Record<string, string>> = {}): Promise<Scene> {
    return new Scene(await freshNodes({ count }), env);
  }

  private constructor(fresh: FreshNodes, env: Readonly<Record<string, string>>) {
    this.#fresh = fresh;
    this.#env = env;
    this.masters = fresh.nodes;
    this.cluster = fresh.cluster;
  }

  addresses(count = this.masters.length): NodeAddress[] {
    return this.masters.slice(0, count).map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
  }

  /** Not started yet. It serves the master at the place, of a cluster of the first `count`. */
  replicator(place: number, count = this.masters.length): AppProcess {
    const { name } = this.masters[place]!;
    return this.#app('replicator', `replicator-${name}-of-${count}`, {
      ...this.#settings(count),
      PGQUORUM_REPLICATOR_NODES: name,
    });
  }

  gateway(): AppProcess {
    const ports = { PGQUORUM_HTTP_PORT: '0', PGQUORUM_GRPC_PORT: '0' };
    return this.#app('gateway', 'gateway', { ...this.#settings(this.masters.length), ...ports });
  }

  #settings(count: number): Record<string, string> {
    return {
      PGQUORUM_NODES: JSON.stringify(this.addresses(count)),
      PGQUORUM_CLUSTER: this.cluster,
      ...this.#env,
    };
  }

  #app(app: 'replicator' | 'gateway', name: string, env: Readonly<Record<string, string>>): AppProcess {
    const logFile = join(this.#folder, `${name}.log`);
    const process = new AppProcess(app, env, logFile);
    this.#apps.push({ process, logFile });
    return process;
  }

  /** Starts the process (anew) with a failpoint, which is the next that it dies by. `during` runs while it is on its way there. */
  async dies(
    app: AppProcess,
    name: Failpoint,
    { time = 1, during }: { readonly time?: number; readonly during?: () => Promise<unknown> } = {},
  ): Promise<void> {
    await app.kill('SIGKILL');
    const { logFile } = this.#apps.find(({ process }) => process === app)!;
    const before = existsSync(logFile) ? readFileSync(logFile, 'utf8').length : 0;
    app.start({ PGQUORUM_TEST_FAULTS: 'on', PGQUORUM_TEST_FAILPOINT: `${name}:${time}` });
    const ended = app.endedBy();
    const killer = setTimeout(() => void app.kill('SIGTERM'), diesWithinMs);
    try {
      await Promise.all([ended, during?.()]);
    } finally {
      clearTimeout(killer);
    }
    const signal = await ended;
    const log = readFileSync(logFile, 'utf8').slice(before);
    expect([name, signal, signal === 'SIGKILL' ? '' : log.slice(-3000)]).toEqual([name, 'SIGKILL', '']);
    // Not always the last line: what it logs comes by another pipe.
    expect(log.split('\n')).toContain(`reached failpoint ${name}`);
    this.reached.add(name);
  }

  async query<T extends object>(place: number, sql: string, values: unknown[] = []): Promise<T[]> {
    return withClient(this.masters[place]!, async (client) => (await client.query<T>(sql, values)).rows);
  }

  /** Users write from now on, on the first `count` masters. */
  async write(collection: string, count = this.masters.length): Promise<void> {
    const masters = this.masters.slice(0, count);
    const prng = new Prng(Math.floor(Math.random() * 2 ** 31));
    const random = (): number => prng.next() / 2 ** 32;
    const { ledger } = this;
    const options = { masters, ledger, random, collection, keys: 80, dimension: definition.dimension };
    // A truncate would take the rows with which a test gets to its failpoints.
    const writer = new RandomWriter({ ...options, truncates: false, gateway: null, numbers: new Map() });
    let writing = true;
    const work = async (): Promise<void> => {
      for (; writing; await sleep(writePauseMs)) await writer.one();
    };
    const workers = Promise.all([work(), work()]);
    workers.catch(() => undefined); // whoever stops them hears of it
    const stop = async (): Promise<number> => {
      writing = false;
      try {
        await workers;
      } finally {
        await writer.close();
      }
      return writer.counts.acknowledged;
    };
    this.#writing = { stop };
  }

  async stopWriting(): Promise<number> {
    const writing = this.#writing;
    this.#writing = null;
    return (await writing?.stop()) ?? 0;
  }

  /** All masters are the same, and every write that was acknowledged is accounted for on each. */
  async converged(collection: string): Promise<void> {
    expect(await this.stopWriting()).toBeGreaterThan(20);
    await convergedMasters(this.masters, collection);
    for (const master of this.masters)
      expect(this.ledger.audit(await readFinal(master, collection)).slice(0, 10)).toEqual([]);
  }

  /** Every edge into the first `count` masters is complete. */
  async ready(count = this.masters.length): Promise<void> {
    for (const place of Array.from({ length: count }, (_, at) => at))
      await eventually(
        `all edges into master ${place + 1} are ready`,
        async () => {
          const [found] = await this.query<{ ready: number; all: number }>(
            place,
            `select count(*) filter (where state = 'ready')::int as ready, count(*)::int as all from pgquorum.source where log <> 'capture'`,
          );
          return found!.all === count - 1 && found!.ready === found!.all;
        },
        { withinMs: 60_000 },
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stopWriting();
    } finally {
      await Promise.all(this.#apps.map(({ process }) => process.kill('SIGKILL')));
      await this.#fresh[Symbol.asyncDispose]();
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}
