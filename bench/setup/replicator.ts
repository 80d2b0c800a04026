/** The replicator as users run it: a process of its own, told what to do by its environment alone. */
import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '#core/config/project-root.files.ts';
import { startGuarded, type GuardedServer } from '#core/testing/guarded-server.os.ts';
import { addresses, clusterName, type Pair } from './masters.ts';

export interface ReplicatorOptions {
  readonly pair: Pick<Pair, 'masters'>;
  /** Names of the nodes that this process serves. */
  readonly serves: readonly string[];
  readonly kafkaBrokers?: readonly string[];
  /** Further settings, by their names. */
  readonly settings?: Readonly<Record<string, string>>;
}

const drainMsMax = 30_000;

export class ReplicatorProcess implements AsyncDisposable {
  readonly #server: GuardedServer;

  private constructor(server: GuardedServer) {
    this.#server = server;
  }

  /** BENCH_PROFILE names a folder for a CPU profile of each process. */
  static async start({
    pair,
    serves,
    kafkaBrokers,
    settings = {},
  }: ReplicatorOptions): Promise<ReplicatorProcess> {
    const profile = process.env['BENCH_PROFILE'];
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('PGQUORUM_')),
    );
    const server = await startGuarded({
      folder: mkdtempSync(join(pair.masters.folder, 'replicator-')),
      command: process.execPath,
      args: [
        ...(profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]),
        join(projectRoot, 'dist/apps/replicator/src/main.js'),
      ],
      env: {
        ...env,
        PGQUORUM_NODES: JSON.stringify(addresses(pair.masters.nodes)),
        PGQUORUM_CLUSTER: clusterName,
        PGQUORUM_REPLICATOR_NODES: serves.join(','),
        PGQUORUM_LOG_LEVEL: 'warn',
        ...settings,
        ...(kafkaBrokers === undefined ? {} : { PGQUORUM_KAFKA_BROKERS: kafkaBrokers.join(',') }),
      },
    });
    return new ReplicatorProcess(server);
  }

  /** Resident memory in MiB, now and at its highest, as the system counts it. */
  memory(): { readonly now: number; readonly highest: number } {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    const field = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? NaN) / 1024;
    return { now: field('VmRSS'), highest: field('VmHWM') };
  }

  get pid(): number {
    return this.#server.identity.pid;
  }

  /** What it complained of: a benchmark with complaints measures something else. */
  get complaints(): string {
    return this.#server.log().trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!(await this.#server.end('SIGTERM', drainMsMax))) {
      await this.#server.end('SIGKILL', 5000);
      throw new Error(`a replicator did not end within ${drainMsMax} ms:\n${this.complaints}`);
    }
    if (this.complaints !== '') process.stderr.write(`${this.complaints}\n`);
  }
}

/** One process a node, as the embedded cluster has them. With the WAL only that of the peer has anything to do. */
export async function startReplicators(
  pair: Pair,
  kafkaBrokers?: readonly string[],
): Promise<ReplicatorProcess[]> {
  const serving = kafkaBrokers === undefined ? [pair.peer] : [pair.origin, pair.peer];
  const started: ReplicatorProcess[] = [];
  for (const node of serving) {
    started.push(
      await ReplicatorProcess.start({
        pair,
        serves: [node.name],
        ...(kafkaBrokers === undefined ? {} : { kafkaBrokers }),
      }),
    );
  }
  return started;
}

export async function stopReplicators(started: readonly ReplicatorProcess[]): Promise<void> {
  for (const replicator of started) await replicator[Symbol.asyncDispose]();
}
