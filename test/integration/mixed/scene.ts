/**
 * Four masters, each with a replicator of its own, and two gateways, all real processes that reach every master through a line of their own. The cluster is
 * founded on three of the masters; the fourth joins when it is told to.
 */
import { join } from 'node:path';
import { createCollection } from '#core/collections/catalog.pg.ts';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import type { NodeAddress } from '#core/config/settings.ts';
import type { KafkaBroker } from '#core/testing/broker.kafka.ts';
import type { Masters, TestMaster } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { freePorts } from '#core/embedded/ports.os.ts';
import { AppProcess } from '../convergence/processes.ts';
import { withClient } from '../convergence/states.ts';
import { Line } from './cut.ts';

export const dimension = 64;
export const mixedCollections = {
  rows: 'docs',
  attached: 'legacy',
  alone: 'alone',
  counted: 'tallies',
} as const;

const definition: CollectionDefinition = {
  dimension,
  metric: 'cosine',
  vectorType: 'vector',
  shards: 16,
  writes: 'any',
  conflicts: { strategy: 'lww' },
  index: { type: 'none' },
};

export interface App {
  process: AppProcess;
  /** By the name of the master. */
  readonly lines: ReadonlyMap<string, Line>;
}

export const query = async <T extends object>(
  master: TestMaster,
  sql: string,
  values: unknown[] = [],
): Promise<T[]> => withClient(master, async (client) => (await client.query<T>(sql, values)).rows);

export class Scene implements AsyncDisposable {
  readonly cluster = `mixed-${Math.random().toString(36).slice(2, 8)}`;
  readonly masters: readonly TestMaster[];
  readonly broker: KafkaBroker | null;
  replicators: App[] = [];
  gateways: App[] = [];
  /** A member leaves or comes back. */
  isChanging = false;
  readonly #folder: string;
  readonly #lines: Line[] = [];
  #gatewayPorts: number[] = [];
  #members = 3;

  constructor(masters: Masters, broker: KafkaBroker | null) {
    this.masters = masters.nodes;
    this.#folder = masters.folder;
    this.broker = broker;
  }

  /** Those that are of the cluster now. */
  get members(): readonly TestMaster[] {
    return this.masters.slice(0, this.#members);
  }

  gatewayUrl(at: number): string {
    return `http://127.0.0.1:${this.#gatewayPorts[at]}`;
  }

  async start(): Promise<void> {
    this.#gatewayPorts = await freePorts(2);
    const nodes: NodeAddress[] = this.members.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
    await foundCluster({ nodes, cluster: this.cluster, log: this.broker === null ? 'wal' : 'kafka' });
    const { rows, alone, counted, attached } = mixedCollections;
    for (const name of [rows, alone]) await createCollection({ nodes, name, definition });
    const fields = { views: 'g-counter', stock: 'pn-counter', tags: 'or-set' } as const;
    await createCollection({
      nodes,
      name: counted,
      definition: { ...definition, conflicts: { strategy: 'crdt', crdt: fields } },
    });
    // The application's table is on all masters, its rows are on one.
    for (const master of this.masters)
      await query(
        master,
        `create table public.${attached} (id text primary key, embedding vector(${dimension}), metadata jsonb, note text default 'from the application')`,
      );
    await query(
      this.masters[0]!,
      `insert into public.${attached} (id, metadata) select 'key' || i, '{"w": "before"}' from generate_series(0, 150) i`,
    );
    await this.#startApps();
  }

  /** All processes end in order and start again with the fourth master in their lists. */
  async join(): Promise<void> {
    await Promise.all([...this.replicators, ...this.gateways].map((app) => app.process.kill('SIGTERM')));
    this.#members = 4;
    await this.#startApps();
  }

  /** Every member that is up has a replicator that beats. */
  async isServed(): Promise<boolean> {
    const beats = await Promise.all(
      this.members.map((master) =>
        query<{ fresh: boolean }>(
          master,
          `select h.at > clock_timestamp() - interval '3 seconds' as fresh from pgquorum.heartbeat h join pgquorum.node n on n.number = h.number`,
        ).catch(() => []),
      ),
    );
    return beats.every((rows) => rows[0]?.fresh === true);
  }

  /** The fourth is a plain database now. */
  hasLeft(): void {
    this.#members = 3;
  }

  comesBack(): void {
    this.#members = 4;
  }

  /** The fourth, and how much of the others it has; null when it is no node, or down. */
  async joining(): Promise<{ number: number; joining: boolean; copied: string } | null> {
    const rows = await query<{ number: number; joining: boolean; copied: string }>(
      this.masters[3]!,
      `select n.number, n.joining_since is not null as joining, (select string_agg(concat_ws(' ', r.origin, r.phase, r.collection, r.shard, r.copied), ', ' order by r.origin) from pgquorum.resync r) as copied from pgquorum.node n`,
    ).catch(() => []);
    return rows[0] ?? null;
  }

  /** Node name -> number, as a master that is up knows it. */
  async numbers(): Promise<ReadonlyMap<string, number>> {
    const rows = await eventually('the nodes are known', async () => {
      const found = await query<{ name: string; number: number }>(
        this.masters[0]!,
        'select name, number from pgquorum.member where not spare and not retired',
      );
      return found.length >= this.#members && found;
    });
    return new Map(rows.map(({ name, number }) => [name, number]));
  }

  heal(): void {
    for (const line of this.#lines) line.heal();
  }

  async stop(): Promise<(number | null)[]> {
    return Promise.all([...this.gateways, ...this.replicators].map((app) => app.process.kill('SIGTERM')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.gateways, ...this.replicators].map((app) => app.process.kill('SIGKILL')));
    await Promise.all(this.#lines.map((line) => line[Symbol.asyncDispose]()));
  }

  async #startApps(): Promise<void> {
    this.replicators = [];
    this.gateways = [];
    for (const { name } of this.members)
      this.replicators.push(await this.#app('replicator', name, { PGQUORUM_REPLICATOR_NODES: name }));
    for (const [at, port] of this.#gatewayPorts.entries())
      this.gateways.push(
        await this.#app('gateway', String(at), {
          PGQUORUM_HTTP_PORT: String(port),
          PGQUORUM_GRPC_PORT: '0',
        }),
      );
    for (const app of [...this.replicators, ...this.gateways]) app.process.start();
  }

  async #app(kind: 'replicator' | 'gateway', name: string, env: Record<string, string>): Promise<App> {
    const lines = new Map<string, Line>();
    const nodes = [];
    for (const { name: node, url, zone } of this.members) {
      const through = await Line.to(url);
      this.#lines.push(through.line);
      lines.set(node, through.line);
      nodes.push({ name: node, url: through.url, zone });
    }
    const settings = {
      PGQUORUM_NODES: JSON.stringify(nodes),
      PGQUORUM_CLUSTER: this.cluster,
      PGQUORUM_HEARTBEAT_INTERVAL_MS: '500',
      ...(this.broker === null ? {} : { PGQUORUM_KAFKA_BROKERS: this.broker.brokers.join(',') }),
      ...env,
    };
    const log = join(this.#folder, `${kind}-${name}.log`);
    // One whose start meets a master that is killed ends: whoever runs it starts it again.
    return { process: new AppProcess(kind, settings, log, { restarts: true }), lines };
  }
}
