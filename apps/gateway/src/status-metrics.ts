/** What the databases say of the cluster, as metrics. */
import { Gauge, type Registry } from '#core/observability/metrics.process.ts';
import { replicaStatuses } from '#core/topology/replica-status.ts';
import type { ClusterStatus } from '#core/topology/status.pg.ts';
import type { Edge, NodeFacts, NodeReport } from '#core/topology/status.ts';

export class StatusMetrics {
  readonly #registry: Registry;
  readonly #edges: readonly (readonly [Gauge<'from' | 'to'>, (edge: Edge) => number | null])[];
  readonly #nodes: readonly (readonly [
    Gauge<'node'>,
    (report: NodeReport & { readonly facts: NodeFacts }) => number | null,
  ])[];
  readonly #replicas: Gauge<'replica' | 'status'>;
  readonly #up: Gauge<'node' | 'zone'>;

  constructor(registry: Registry) {
    this.#registry = registry;
    const ofEdge = (name: string, help: string) => this.#gauge(name, help, ['from', 'to']);
    this.#edges = [
      [
        ofEdge('pgquorum_replication_lag_seconds', 'Age of the newest change or heartbeat applied, by edge.'),
        ({ ms }) => (ms === null ? null : ms / 1000),
      ],
      [
        ofEdge('pgquorum_replication_lag_bytes', 'WAL of the origin that the edge has not confirmed.'),
        ({ bytes }) => bytes,
      ],
      [
        ofEdge(
          'pgquorum_replication_lag_changes',
          'Changes of the origin that may be missing, by edge; what is parked included.',
        ),
        ({ changes }) => changes,
      ],
      [
        ofEdge(
          'pgquorum_parked_changes',
          'Changes that wait aside for a paused collection, a held row or another row, by edge.',
        ),
        ({ parked }) => parked,
      ],
    ];
    const ofNode = (name: string, help: string) => this.#gauge(name, help, ['node']);
    this.#nodes = [
      [
        ofNode('pgquorum_conflicts_open', 'Open conflict records, by node that was asked.'),
        ({ facts }) => facts.openConflicts,
      ],
      [
        ofNode('pgquorum_dead_letters', 'Changes that a node can not apply and keeps for an operator.'),
        ({ facts }) => facts.deadLetters,
      ],
      [
        ofNode(
          'pgquorum_clock_offset_ms',
          'Clock of a node against the median of the nodes, positive when it is ahead.',
        ),
        ({ clockOffsetMs }) => clockOffsetMs,
      ],
    ];
    this.#replicas = this.#gauge('pgquorum_replica_status', '1 for the status that a replica has.', [
      'replica',
      'status',
    ]);
    this.#up = this.#gauge('pgquorum_node_up', '1 when the node can be reached.', ['node', 'zone']);
  }

  show({ reports, edges, readAtMs }: ClusterStatus): void {
    for (const [gauge, valueOf] of this.#edges) {
      gauge.reset();
      for (const edge of edges) {
        const value = valueOf(edge);
        if (value !== null) gauge.set({ from: edge.from, to: edge.to }, value);
      }
    }
    for (const [gauge, valueOf] of this.#nodes) {
      gauge.reset();
      for (const report of reports) {
        const { facts } = report;
        const value = facts === null ? null : valueOf({ ...report, facts });
        if (value !== null) gauge.set({ node: report.name }, value);
      }
    }
    this.#up.reset();
    for (const { name, zone, facts } of reports) this.#up.set({ node: name, zone }, facts === null ? 0 : 1);
    this.#replicas.reset();
    for (const { id, status } of replicaStatuses(reports, edges, readAtMs))
      this.#replicas.set({ replica: id, status }, 1);
  }

  #gauge<T extends string>(name: string, help: string, labelNames: T[]): Gauge<T> {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] });
  }
}
