/** Replicators and a writer whose links to servers lead through proxies of the test, and what is done to those links. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from '@jest/globals';
import type { NodeAddress } from '#core/config/settings.ts';
import type { TestNode } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { Prng } from '../../simulation/prng.ts';
import { convergedMasters } from '../convergence/compare.ts';
import { Ledger } from '../convergence/ledger.ts';
import { AppProcess } from '../convergence/processes.ts';
import { readFinal, withClient } from '../convergence/states.ts';
import { RandomWriter } from '../convergence/writer.ts';
import { definition } from '../failpoints/scene.ts';
import { FaultProxy } from '../fault-proxy.ts';

export const collection = 'docs';
/** An edge that lags so much is stuck for readiness. */
export const lagReadyMaxMs = 4000;
/** docs/operating.md says half of it: a busy machine may take longer. */
export const silenceNoticedMs = 80_000;
const faultMs = 1500;

const faults: readonly ((proxy: FaultProxy) => void)[] = [
  // Pieces come late, one later than the other.
  ({ toServer, toClient }) => {
    for (const one of [toServer, toClient]) Object.assign(one, { delayMs: 20, jitterMs: 150 });
  },
  // They come slowly.
  ({ toServer, toClient }) => {
    for (const one of [toServer, toClient]) one.bytesPerSecond = 20_000;
  },
  // Connections are reset, again and again.
  (proxy) => {
    proxy.reset();
    for (const at of [400, 800, 1200]) setTimeout(() => proxy.reset(), at).unref();
  },
  (proxy) => {
    proxy.refuse = true;
    proxy.reset();
  },
  // They break off in the middle of an answer, or of a commit.
  ({ toClient }) => {
    toClient.cutWithin = () => Math.random() < 0.02;
  },
  ({ toServer }) => {
    toServer.cutWithin = (piece) => piece.includes('commit') || Math.random() < 0.005;
  },
];

interface Link {
  readonly name: string;
  readonly proxy: FaultProxy;
}

interface Replicator {
  readonly app: AppProcess;
  port: number;
}

interface NotReady {
  readonly waiting: readonly string[];
  readonly stuck: readonly string[];
}

export class Network implements AsyncDisposable {
  readonly links: Link[] = [];
  readonly replicators: Replicator[] = [];
  readonly #masters: readonly TestNode[];
  readonly #ledger = new Ledger();
  readonly #folder = mkdtempSync(join(tmpdir(), 'pgquorum-network-'));
  #stop: (() => Promise<number>) | null = null;
  #open: readonly number[] = [];

  constructor(masters: readonly TestNode[]) {
    this.#masters = masters;
  }

  get nodes(): NodeAddress[] {
    return this.#masters.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
  }

  /** The masters by links of somebody's own. */
  async through(who: string): Promise<NodeAddress[]> {
    const found: NodeAddress[] = [];
    for (const node of this.nodes) {
      const proxy = await FaultProxy.beforeUrl(node.url);
      this.links.push({ name: `${who} to ${node.name}`, proxy });
      found.push({ ...node, url: proxy.through(node.url) });
    }
    return found;
  }

  proxy(name: string): FaultProxy {
    return this.links.find((link) => link.name === name)!.proxy;
  }

  /** The one that serves a master. */
  async start(name: string, env: Readonly<Record<string, string>>): Promise<void> {
    const logFile = join(this.#folder, `${name}.log`);
    const app = new AppProcess(
      'replicator',
      {
        ...env,
        PGQUORUM_REPLICATOR_NODES: name,
        PGQUORUM_METRICS_PORT: '0',
        PGQUORUM_LAG_READY_MAX_MS: String(lagReadyMaxMs),
      },
      logFile,
    );
    app.start();
    // In the list before it is waited for: it is ended with the others.
    const replicator = { app, port: 0 };
    this.replicators.push(replicator);
    replicator.port = await eventually(
      `replicator ${name} listens`,
      () => /"port":(\d+),"msg":"metrics are served"/.exec(readFileSync(logFile, 'utf8'))?.[1],
      { withinMs: 120_000, everyMs: 100 },
    ).then(Number);
  }

  /** What the replicator at the place says that is not ready; null when it is. */
  async notReady(place: number): Promise<NotReady | null> {
    const answer = await fetch(`http://127.0.0.1:${this.replicators[place]!.port}/readyz`);
    const body = (await answer.json()) as NotReady;
    return answer.status === 503 ? body : null;
  }

  write(nodes: readonly ClusterNode[], gateway: string | null): void {
    const prng = new Prng(Math.floor(Math.random() * 2 ** 31));
    const writer = new RandomWriter({
      masters: this.#masters,
      ledger: this.#ledger,
      random: () => prng.next() / 2 ** 32,
      collection,
      keys: 60,
      dimension: definition.dimension,
      gateway,
      numbers: new Map(nodes.map(({ name, number }) => [name, number])),
    });
    let writing = true;
    const work = async (): Promise<void> => {
      for (; writing; await sleep(10)) await writer.one();
    };
    const workers = Promise.all([work(), work()]);
    workers.catch(() => undefined); // whoever stops them hears of it
    this.#stop = async () => {
      writing = false;
      try {
        await workers;
      } finally {
        await writer.close();
      }
      return writer.counts.acknowledged;
    };
  }

  /** All links at once, each with another of the faults, until each has had all. */
  async afflict(): Promise<void> {
    for (const round of faults.keys()) {
      for (const [at, { proxy }] of this.links.entries()) faults[(round + at) % faults.length]!(proxy);
      await sleep(faultMs);
      for (const { proxy } of this.links) proxy.heal();
    }
  }

  /** A write on each master comes to all others, and every replicator is ready. */
  async flows(marker: string): Promise<void> {
    for (const { name, url } of this.nodes)
      await withClient({ url }, (client) =>
        client.query(
          `insert into ${collection} (id, embedding, metadata) values ($1, array_fill(1, array[8])::vector, '{"w":"marker"}')`,
          [`${marker} ${name}`],
        ),
      );
    for (const from of this.nodes)
      for (const { name, url } of this.nodes)
        await eventually(
          `${marker}: a write on ${from.name} is on ${name}`,
          () =>
            withClient({ url }, async (client) => {
              const found = await client.query(`select from pgquorum.version_${collection} where id = $1`, [
                `${marker} ${from.name}`,
              ]);
              return found.rows.length === 1;
            }),
          { withinMs: 120_000, everyMs: 100 },
        ).catch((cause: unknown) => {
          throw new Error(`${(cause as Error).message}\n${this.#told()}`, { cause });
        });
    for (const place of this.replicators.keys()) {
      let why: NotReady | null = null;
      await eventually(
        `${marker}: replicator ${place + 1} is ready`,
        async () => (why = await this.notReady(place)) === null,
        { withinMs: 240_000, everyMs: 100 },
      ).catch((cause: unknown) => {
        throw new Error(`${(cause as Error).message}: ${JSON.stringify(why)}\n${this.#told()}`, { cause });
      });
    }
  }

  /** What the replicators said last. */
  #told(): string {
    return this.nodes
      .map(({ name }) => readFileSync(join(this.#folder, `${name}.log`), 'utf8').slice(-3000))
      .join('\n');
  }

  /** How many connections each link has while all is well. */
  count(): void {
    this.#open = this.links.map(({ proxy }) => proxy.open);
  }

  /** No link has more of them than then, but for what may be about to be made. */
  async noneLeftOver(): Promise<void> {
    for (const [at, { name, proxy }] of this.links.entries())
      await eventually(
        `${name}: ${this.#open[at]} connections, as before`,
        () => {
          if (proxy.open > this.#open[at]! + 3) throw new Error(`there are ${proxy.open}`);
          return true;
        },
        { withinMs: 120_000, everyMs: 500 },
      );
    for (const { app } of this.replicators) expect(residentMb(app.pid!)).toBeLessThan(512);
  }

  async converged(): Promise<void> {
    expect(await this.stopWriting()).toBeGreaterThan(50);
    await convergedMasters(this.#masters, collection);
    for (const master of this.#masters)
      expect(this.#ledger.audit(await readFinal(master, collection)).slice(0, 10)).toEqual([]);
  }

  async stopWriting(): Promise<number> {
    const stop = this.#stop;
    this.#stop = null;
    return (await stop?.()) ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stopWriting();
    } finally {
      await Promise.all(this.replicators.map(({ app }) => app.kill('SIGKILL')));
      for (const { proxy } of this.links) await proxy[Symbol.asyncDispose]();
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}

const residentMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
