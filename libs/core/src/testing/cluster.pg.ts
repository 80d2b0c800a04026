/**
 * A founded cluster for tests: masters with identities, slots and collections, edges that the test runs itself, and what it has to look at to
 * compare the masters in full.
 *
 *     await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
 *     cluster.replicate();
 *     await cluster.query(0, `insert into docs values ('k', '[1,2,3]')`);
 *     await cluster.caughtUp();
 */
import pg from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import { runEdge, type EdgeOptions } from '../apply/edge.pg.ts';
import type { ApplyCounts } from '../apply/outcomes.ts';
import type { EdgeStart } from '../apply/progress.pg.ts';
import { WalChangeLog, type WalOptions } from '../changelog/wal.pg.ts';
import { createCollection } from '../collections/catalog.pg.ts';
import type { CollectionDefinition } from '../collections/definition.ts';
import { createLogger, type Logger } from '../observability/logger.process.ts';
import { foundCluster, type ClusterNode } from '../topology/found.pg.ts';
import { freshNodes, type FreshNodesOptions } from './fresh-nodes.pg.ts';
import type { TestNode } from './masters.pg.ts';
import { eventually, type WaitOptions } from './wait.process.ts';

export const testDefinition: CollectionDefinition = {
  dimension: 3,
  metric: 'cosine',
  vectorType: 'vector',
  shards: 8,
  writes: 'any',
  conflicts: { strategy: 'lww' },
  index: { type: 'none' },
};

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** A logger whose lines a test can look at. */
export function listeningLogger(): { logger: Logger; lines: LogLine[] } {
  const lines: LogLine[] = [];
  return {
    logger: createLogger({
      app: 'test',
      level: 'debug',
      write: (line) => void lines.push(JSON.parse(line) as LogLine),
    }),
    lines,
  };
}

export type EdgeOverrides = Partial<
  Pick<EdgeOptions, 'lanes' | 'batchSize' | 'syncIntervalMs' | 'openReader' | 'log'>
> &
  Partial<Pick<WalOptions, 'transactionBytesMax'>>;

/** An edge that is started again when it breaks, as a replicator does. */
export class TestEdge {
  readonly origin: ClusterNode;
  readonly target: ClusterNode;
  readonly counts: ApplyCounts = { written: 0, skipped: 0, conflicts: 0, found: [], vanished: 0 };
  readonly failures: unknown[] = [];
  readonly lines: LogLine[];
  /** Keys that the origin's capture found without a row. */
  readonly rowless: string[] = [];
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  constructor(cluster: string, origin: ClusterNode, target: ClusterNode, overrides: EdgeOverrides) {
    this.origin = origin;
    this.target = target;
    const { logger, lines } = listeningLogger();
    this.lines = lines;
    this.#done = this.#keep({
      cluster,
      origin,
      target,
      log: 'wal',
      openReader: (start) =>
        Promise.resolve(
          openWal(origin, start, {
            ...overrides,
            onRowless: (_collection, keys) => void this.rowless.push(...keys),
          }),
        ),
      lanes: 2,
      batchSize: 500,
      syncIntervalMs: 0,
      idleProgressMs: 20,
      logger,
      onApplied: (counts) => this.#add(counts),
      ...overrides,
    });
  }

  #add(counts: ApplyCounts): void {
    this.counts.written += counts.written;
    this.counts.skipped += counts.skipped;
    this.counts.conflicts += counts.conflicts;
    this.counts.vanished += counts.vanished;
  }

  async #keep(options: EdgeOptions): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        await runEdge(options, signal);
      } catch (cause) {
        if (signal.aborted) return;
        this.failures.push(cause);
        await delay(100, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
      }
    }
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }
}

/** The WAL of an origin as an edge reads it. */
export function openWal(
  origin: ClusterNode,
  start: EdgeStart,
  options: Partial<WalOptions> = {},
): WalChangeLog {
  return new WalChangeLog({
    node: origin.address,
    origin: origin.number,
    slot: start.source.slot!,
    sole: options.sole ?? true,
    publication: start.source.publication,
    transactionBytesMax: options.transactionBytesMax ?? 64 * 1024 * 1024,
    ...(options.confirmed ? { confirmed: true } : {}),
    ...(options.onRowless ? { onRowless: options.onRowless } : {}),
  });
}

export interface TestClusterOptions extends FreshNodesOptions {
  /** Collections of three dimensions to create; others through `create`. */
  readonly collections?: readonly string[];
  /** Default `wal`; the edges that a test runs itself read the WAL, those of its replicators what was founded. */
  readonly log?: 'wal' | 'kafka';
}

/** On databases of its own, on a server shared with other tests. */
export async function foundTestCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  const fresh = await freshNodes({ count: 2, ...options });
  return foundOn(fresh.nodes, {
    cluster: fresh.cluster,
    collections: options.collections ?? [],
    log: options.log ?? 'wal',
    release: async () => fresh[Symbol.asyncDispose](),
  });
}

export interface FoundOnOptions {
  readonly cluster: string;
  readonly collections: readonly string[];
  readonly log?: 'wal' | 'kafka';
  readonly release?: () => Promise<void>;
}

/** On masters that the test has started. */
export async function foundOn(nodes: readonly TestNode[], options: FoundOnOptions): Promise<TestCluster> {
  const cluster = new TestCluster(nodes, options);
  try {
    await cluster.found(options.log);
    for (const name of options.collections) await cluster.create(name);
  } catch (cause) {
    await cluster[Symbol.asyncDispose]();
    throw cause;
  }
  return cluster;
}

export class TestCluster implements AsyncDisposable {
  readonly cluster: string;
  readonly masters: readonly TestNode[];
  nodes: readonly ClusterNode[] = [];
  #edges: TestEdge[] = [];
  readonly #pools: pg.Pool[];
  readonly #clients: pg.Client[] = [];
  readonly #release: (() => Promise<void>) | undefined;

  constructor(masters: readonly TestNode[], options: FoundOnOptions) {
    this.masters = masters;
    this.cluster = options.cluster;
    this.#release = options.release;
    this.#pools = masters.map((node) => {
      const pool = new pg.Pool({
        connectionString: node.url,
        max: 4,
        application_name: 'a user',
        options: '-c timezone=UTC -c bytea_output=hex',
      });
      pool.on('error', () => undefined); // a test may restart the server
      return pool;
    });
  }

  get edges(): readonly TestEdge[] {
    return this.#edges;
  }

  async found(log: 'wal' | 'kafka' = 'wal'): Promise<void> {
    const nodes = this.masters.map((node) => ({
      name: node.name,
      url: node.url,
      zone: node.zone,
      weight: 1,
    }));
    this.nodes = await foundCluster({ nodes, cluster: this.cluster, log });
  }

  async create(name: string, definition: Partial<CollectionDefinition> = {}): Promise<void> {
    await createCollection({
      nodes: this.nodes.map((node) => node.address),
      name,
      definition: { ...testDefinition, ...definition },
    });
  }

  /** One statement of a user on the node at this place; its rows. */
  async query<R extends pg.QueryResultRow = Record<string, unknown>>(
    place: number,
    text: string,
    values: unknown[] = [],
  ): Promise<R[]> {
    return (await this.#pools[place]!.query<R>(text, values)).rows;
  }

  /** Drops a slot whose reader has ended: its backend at the server may take a moment longer. */
  async dropSlot(place: number, slot: string): Promise<void> {
    await eventually(`slot ${slot} is not read any more`, async () => {
      const [found] = await this.query<{ active: boolean }>(
        place,
        'select active from pg_replication_slots where slot_name = $1',
        [slot],
      );
      return found?.active === false;
    });
    await this.query(place, 'select pg_drop_replication_slot($1)', [slot]);
  }

  async everywhere(text: string): Promise<void> {
    for (const place of this.masters.keys()) await this.query(place, text);
  }

  async asSuper<R extends pg.QueryResultRow = Record<string, unknown>>(
    place: number,
    text: string,
  ): Promise<R[]> {
    const client = await this.client(place, { url: this.masters[place]!.superUrl });
    const result = await client.query<R>(text);
    await client.end();
    return result.rows;
  }

  /** A session of its own, closed with the cluster. */
  async client(place: number, options: { url?: string; config?: pg.ClientConfig } = {}): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: options.url ?? this.masters[place]!.url,
      application_name: 'a user',
      ...options.config,
    });
    client.on('error', () => undefined); // the query that notices it rejects
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  edge(origin: number, target: number, overrides: EdgeOverrides = {}): TestEdge {
    const edge = new TestEdge(this.cluster, this.nodes[origin]!, this.nodes[target]!, overrides);
    this.#edges.push(edge);
    return edge;
  }

  /** Runs every edge. */
  replicate(overrides: EdgeOverrides = {}): void {
    for (const origin of this.nodes.keys())
      for (const target of this.nodes.keys()) if (origin !== target) this.edge(origin, target, overrides);
  }

  async stopEdges(): Promise<void> {
    await Promise.all(this.#edges.splice(0).map((edge) => edge.stop()));
  }

  /** Waits until every running edge has applied, or durably put aside, what is committed now. */
  async caughtUp(options: WaitOptions = {}): Promise<void> {
    await Promise.all(this.#edges.map((edge) => this.#caughtUp(edge, options)));
  }

  async #caughtUp(edge: TestEdge, options: WaitOptions): Promise<void> {
    const origin = this.nodes.indexOf(edge.origin);
    const target = this.nodes.indexOf(edge.target);
    const [end] = await this.query<{ at: string }>(
      origin,
      `select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint::text as at`,
    );
    await this.query(origin, 'update pgquorum.heartbeat set at = clock_timestamp()');
    const reached = async (): Promise<boolean> => {
      const [row] = await this.query<{ reached: boolean }>(
        target,
        `select count(p.*) = s.lanes and coalesce(min(p.position) >= $2, false) as reached
         from pgquorum.source s left join pgquorum.progress p on p.origin = s.origin and p.log = s.log where s.origin = $1 and s.log = 'wal' group by s.lanes`,
        [edge.origin.number, end!.at],
      );
      return row?.reached === true;
    };
    await eventually(`${edge.origin.name} applied on ${edge.target.name}`, reached, options).catch(
      (cause: unknown) => {
        throw new Error(
          `${(cause as Error).message}; failures: ${edge.failures.map(String).join('; ')}; log: ${edge.lines
            .slice(-5)
            .map((line) => line.msg)
            .join('; ')}`,
          { cause },
        );
      },
    );
  }

  /** Rows, versions and open conflicts of a collection as lines of text, without what may differ between masters that agree. */
  async state(place: number, collection: string): Promise<string[]> {
    const lines = async (text: string): Promise<string[]> =>
      (await this.query<{ line: string }>(place, text)).map((row) => row.line);
    return [
      ...(await lines(`select 'row ' || t::text as line from public.${collection} t order by 1`)),
      ...(await lines(
        `select 'version ' || (to_jsonb(v) - 'applied' || jsonb_build_object('seen', coalesce(v.seen, v.clock)))::text as line from pgquorum.version_${collection} v order by 1`,
      )),
      ...(await lines(
        `select 'conflict ' || jsonb_build_object('key', c.key, 'loser', c.loser_origin || '.' || c.loser_counter, 'clock', c.loser_clock, 'deleted', c.loser_deleted, 'row', c.loser_row)::text as line
         from pgquorum.conflict c where c.collection = '${collection}' and c.state = 'open' order by 1`,
      )),
    ];
  }

  /** The state of each master, one after the other. */
  async states(collection: string): Promise<string[][]> {
    const states = [];
    for (const place of this.masters.keys()) states.push(await this.state(place, collection));
    return states;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopEdges();
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined))); // the server may be gone
    await Promise.all(this.#pools.map((pool) => pool.end()));
    await this.#release?.();
  }
}
