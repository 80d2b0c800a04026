/** The gateway's metrics. What is read from the databases is read when the metrics are asked for. */
import {
  Counter,
  createRegistry,
  Gauge,
  Histogram,
  latencyBuckets,
  type Registry,
} from '#core/observability/metrics.process.ts';
import type { Nodes } from '#core/topology/nodes.pg.ts';
import type { StatusBoard } from '#core/topology/status.pg.ts';

export class GatewayMetrics {
  readonly registry: Registry;
  readonly #requests: Histogram<'route' | 'method' | 'status'>;
  readonly #calls: Histogram<'method' | 'code'>;
  readonly #writes: Counter<'collection' | 'outcome'>;
  #written = 0;

  constructor(cluster: string) {
    this.registry = createRegistry({ app: 'gateway', cluster });
    const registers = [this.registry];
    this.#requests = new Histogram({
      name: 'pgquorum_http_request_seconds',
      help: 'HTTP requests by route, method and status.',
      labelNames: ['route', 'method', 'status'],
      buckets: latencyBuckets,
      registers,
    });
    this.#calls = new Histogram({
      name: 'pgquorum_grpc_request_seconds',
      help: 'gRPC calls by method and code.',
      labelNames: ['method', 'code'],
      buckets: latencyBuckets,
      registers,
    });
    this.#writes = new Counter({
      name: 'pgquorum_writes_total',
      help: 'Written and refused items by collection and outcome: ok or an error code.',
      labelNames: ['collection', 'outcome'],
      registers,
    });
  }

  /** Items written by this process since its start. */
  get written(): number {
    return this.#written;
  }

  countWrite(collection: string, outcome: string): void {
    if (outcome === 'ok') this.#written += 1;
    this.#writes.inc({ collection, outcome });
  }

  observeRequest(labels: { route: string; method: string; status: number }, seconds: number): void {
    this.#requests.observe(labels, seconds);
  }

  observeCall(labels: { method: string; code: string }, seconds: number): void {
    this.#calls.observe(labels, seconds);
  }

  watch(nodes: Nodes, board: StatusBoard): void {
    const gauge = <T extends string>(name: string, help: string, labelNames: T[]) =>
      new Gauge({ name, help, labelNames, registers: [this.registry] });
    const lag = gauge(
      'pgquorum_replication_lag_seconds',
      'Age of the newest change or heartbeat applied, by edge.',
      ['from', 'to'],
    );
    const bytes = gauge(
      'pgquorum_replication_lag_bytes',
      'WAL of the origin that the edge has not confirmed.',
      ['from', 'to'],
    );
    const conflicts = gauge('pgquorum_conflicts_open', 'Open conflict records, by node that was asked.', [
      'node',
    ]);
    const deadLetters = gauge(
      'pgquorum_dead_letters',
      'Changes that a node can not apply and keeps for an operator.',
      ['node'],
    );
    const clocks = gauge(
      'pgquorum_clock_offset_ms',
      'Clock of a node against the median of the nodes, positive when it is ahead.',
      ['node'],
    );
    const up = gauge('pgquorum_node_up', '1 when the node can be reached.', ['node', 'zone']);
    const pool = gauge(
      'pgquorum_pool_connections',
      'Connections and waiting requests of the pool, by node and state.',
      ['node', 'state'],
    );
    this.#refresh = async (): Promise<void> => {
      const status = await board.read();
      for (const one of [lag, bytes, conflicts, deadLetters, clocks]) one.reset();
      for (const edge of status.edges) {
        if (edge.ms !== null) lag.set({ from: edge.from, to: edge.to }, edge.ms / 1000);
        if (edge.bytes !== null) bytes.set({ from: edge.from, to: edge.to }, edge.bytes);
      }
      for (const report of status.reports) {
        up.set({ node: report.name, zone: report.zone }, report.facts === null ? 0 : 1);
        if (report.facts === null) continue;
        conflicts.set({ node: report.name }, report.facts.openConflicts);
        deadLetters.set({ node: report.name }, report.facts.deadLetters);
        if (report.clockOffsetMs !== null) clocks.set({ node: report.name }, report.clockOffsetMs);
      }
      for (const { name, pool: connections } of nodes.all) {
        pool.set({ node: name, state: 'idle' }, connections.idleCount);
        pool.set({ node: name, state: 'busy' }, connections.totalCount - connections.idleCount);
        pool.set({ node: name, state: 'waiting' }, connections.waitingCount);
      }
    };
  }

  #refresh: () => Promise<void> = () => Promise.resolve();

  async text(): Promise<string> {
    await this.#refresh();
    return this.registry.metrics();
  }
}
