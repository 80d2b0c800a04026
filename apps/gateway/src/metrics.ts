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
import { StatusMetrics } from './status-metrics.ts';

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
    const state = new StatusMetrics(this.registry);
    const pool = new Gauge({
      name: 'pgquorum_pool_connections',
      help: 'Connections and waiting requests of the pool, by node and state.',
      labelNames: ['node', 'state'],
      registers: [this.registry],
    });
    this.#refresh = async (): Promise<void> => {
      state.show(await board.read());
      pool.reset();
      for (const { name, pool: connections } of nodes.all) {
        pool.set({ node: name, state: 'idle' }, connections.idleCount);
        pool.set({ node: name, state: 'busy' }, connections.totalCount - connections.idleCount);
        pool.set({ node: name, state: 'waiting' }, connections.waitingCount);
      }
    };
  }

  watchRoom(room: { readonly running: number; readonly waiting: number }): void {
    const requests = new Gauge({
      name: 'pgquorum_requests',
      help: 'Requests of HTTP and gRPC that are worked on or wait for their turn, by state.',
      labelNames: ['state'],
      registers: [this.registry],
      collect: () => {
        requests.set({ state: 'running' }, room.running);
        requests.set({ state: 'waiting' }, room.waiting);
      },
    });
  }

  #refresh: () => Promise<void> = () => Promise.resolve();

  async text(): Promise<string> {
    await this.#refresh();
    return this.registry.metrics();
  }
}
