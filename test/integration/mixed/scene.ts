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

  async joined(): Promise<boolean> {
    const rows = await query<{ joining: boolean }>(
      this.masters[3]!,
      'select joining_since is not null as joining from pgquorum.node',
    ).catch(() => []); // not founded yet, or down
    return rows[0]?.joining === false;
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
    return { process: new AppProcess(kind, settings, join(this.#folder, `${kind}-${name}.log`)), lines };
  }
}
