/** Asks every node for its clock again and again, and leaves what was found in each node that this process serves, where gateways read it. */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { bestSample, takeSample, withSample, type ClockSample } from './clock-drift.ts';
import type { ClusterNode } from './found.pg.ts';

/** Nodes that fell silent must not hold up the others for long. */
const answerWithinMs = 2000;
/** How long a sample counts of a node that can not be asked any more. */
const keptMs = 30_000;

export interface ClockWatchOptions {
  readonly nodes: readonly ClusterNode[];
  /** Where the findings are written. */
  readonly served: readonly ClusterNode[];
  readonly intervalMs: number;
  readonly onMeasured?: () => void;
}

interface Found {
  readonly samples: readonly ClockSample[];
  readonly atMs: number;
}

/** Runs until the signal aborts. A node that can not be reached is left out until it can. */
export async function watchClocks(options: ClockWatchOptions, signal: AbortSignal): Promise<void> {
  const watched = options.nodes.map((node) => new WatchedNode(node));
  try {
    while (!signal.aborted) {
      await Promise.all(watched.map((one) => one.measure()));
      const findings = JSON.stringify(Object.fromEntries(watched.flatMap((one) => one.finding())));
      const served = watched.filter(({ node }) => options.served.some((one) => one.number === node.number));
      await Promise.all(served.map((one) => one.write(findings)));
      options.onMeasured?.();
      await sleep(options.intervalMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  } finally {
    await Promise.all(watched.map((one) => one.close()));
  }
}

class WatchedNode {
  readonly node: ClusterNode;
  #client: pg.Client | null = null;
  #found: Found | null = null;

  constructor(node: ClusterNode) {
    this.node = node;
  }

  async measure(): Promise<void> {
    await this.#ask(async (client) => {
      const sentMs = performance.now();
      const { rows } = await client.query<{ ms: number }>({
        name: 'clock',
        text: 'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
      });
      const sample = takeSample(rows[0]!.ms, sentMs, performance.now());
      this.#found = { samples: withSample(this.#found?.samples ?? [], sample), atMs: performance.now() };
    });
  }

  /** Number of the node -> [offset, round trip], or nothing when it has not answered for a while. */
  finding(): [string, [number, number]][] {
    if (this.#found === null || performance.now() - this.#found.atMs > keptMs) return [];
    const best = bestSample(this.#found.samples);
    return best === null ? [] : [[String(this.node.number), [best.offsetMs, best.roundTripMs]]];
  }

  async write(findings: string): Promise<void> {
    await this.#ask((client) =>
      client.query(
        'insert into pgquorum.clock_view (found, at) values ($1, clock_timestamp()) on conflict (only_row) do update set found = excluded.found, at = excluded.at',
        [findings],
      ),
    );
  }

  /** The state of nodes is shown by whoever needs them; here a lost one is asked again with the next turn. */
  async #ask(work: (client: pg.Client) => Promise<unknown>): Promise<void> {
    try {
      this.#client ??= await connect(this.node.address, {
        application: 'pgquorum clocks',
        connectTimeoutMs: answerWithinMs,
        answerWithinMs,
      });
      await work(this.#client);
    } catch {
      await this.close();
    }
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = null;
    if (client !== null) await closeClient(client);
  }
}
