/** Metrics of a replicator process. */
import { Counter, Gauge, Histogram, type Registry } from '#core/observability/metrics.process.ts';

export class ReplicationMetrics {
  readonly applied: Counter<'origin' | 'target' | 'outcome'>;
  readonly conflicts: Counter<'origin' | 'target' | 'collection' | 'kind'>;
  readonly openConflicts: Gauge<'node' | 'collection'>;
  readonly batchSeconds: Histogram<'origin' | 'target'>;
  readonly fed: Counter<'origin'>;
  readonly published: Counter<'origin' | 'format'>;
  readonly resolved: Counter<'node' | 'collection'>;
  readonly resolverFailures: Counter<'node' | 'collection'>;
  readonly resyncing: Gauge<'origin' | 'target'>;
  readonly edge: ReturnType<typeof edgeMetrics>;
  readonly verify: ReturnType<typeof verifyMetrics>;
  readonly running: Gauge<'loop'>;
  readonly restarts: Counter<'loop'>;
  readonly registry: Registry;

  constructor(registry: Registry) {
    this.registry = registry;
    const registers = [registry];
    this.applied = new Counter({
      name: 'pgquorum_changes_applied_total',
      help: 'Changes taken by a target, written or skipped because it had them.',
      labelNames: ['origin', 'target', 'outcome'],
      registers,
    });
    this.conflicts = new Counter({
      name: 'pgquorum_conflicts_found_total',
      help: 'Conflict records made while applying.',
      labelNames: ['origin', 'target', 'collection', 'kind'],
      registers,
    });
    this.openConflicts = new Gauge({
      name: 'pgquorum_conflicts_open',
      help: 'Open conflict records of a served node, by collection; counted by housekeeping.',
      labelNames: ['node', 'collection'],
      registers,
    });
    this.batchSeconds = batchHistogram(registry);
    this.fed = new Counter({
      name: 'pgquorum_changes_fed_total',
      help: 'Changes of an origin appended to its topic.',
      labelNames: ['origin'],
      registers,
    });
    this.published = publishedCounter(registry);
    this.resolved = new Counter({
      name: 'pgquorum_conflicts_resolved_total',
      help: 'Conflicts resolved by custom resolvers.',
      labelNames: ['node', 'collection'],
      registers,
    });
    this.resolverFailures = new Counter({
      name: 'pgquorum_resolver_failures_total',
      help: 'Times that a custom resolver gave no usable result for a key; its conflicts stay open.',
      labelNames: ['node', 'collection'],
      registers,
    });
    this.resyncing = resyncingGauge(registry);
    this.edge = edgeMetrics(registry);
    this.verify = verifyMetrics(registry);
    this.running = new Gauge({
      name: 'pgquorum_loop_running',
      help: '1 while a loop of this process runs.',
      labelNames: ['loop'],
      registers,
    });
    this.restarts = restartsCounter(registry);
  }
}

const publishedCounter = (registry: Registry): Counter<'origin' | 'format'> =>
  new Counter({
    name: 'pgquorum_changes_published_total',
    help: 'Changes of an origin published again in a format for others.',
    labelNames: ['origin', 'format'],
    registers: [registry],
  });

const restartsCounter = (registry: Registry): Counter<'loop'> =>
  new Counter({
    name: 'pgquorum_loop_restarts_total',
    help: 'How often a loop of this process broke and was started again.',
    labelNames: ['loop'],
    registers: [registry],
  });

const resyncingGauge = (registry: Registry): Gauge<'origin' | 'target'> =>
  new Gauge({
    name: 'pgquorum_edge_resyncing',
    help: '1 while a target copies what an edge into it has missed.',
    labelNames: ['origin', 'target'],
    registers: [registry],
  });

/** The stages of an edge before and beside the applying. */
function edgeMetrics(registry: Registry) {
  const registers = [registry];
  const labelNames = ['origin', 'target'] as const;
  return {
    setAside: new Counter({
      name: 'pgquorum_changes_set_aside_total',
      help: 'Changes that could not be applied when they came: parked, or kept as dead letters.',
      labelNames: ['origin', 'target', 'outcome'] as const,
      registers,
    }),
    queued: new Gauge({
      name: 'pgquorum_lane_changes',
      help: 'Changes that were read and wait in the lanes of an edge.',
      labelNames,
      registers,
    }),
    read: new Counter({
      name: 'pgquorum_edge_read_bytes_total',
      help: 'Bytes that an edge has read of its change log.',
      labelNames,
      registers,
    }),
    held: new Counter({
      name: 'pgquorum_edge_throttled_seconds_total',
      help: 'How long an edge was held back by its limit.',
      labelNames,
      registers,
    }),
    limit: new Gauge({
      name: 'pgquorum_bandwidth_limit_bytes_per_second',
      help: 'The limit of each edge, and of all edges into a node together; 0 = none.',
      labelNames: ['of'] as const,
      registers,
    }),
  };
}

const batchHistogram = (registry: Registry): Histogram<'origin' | 'target'> =>
  new Histogram({
    name: 'pgquorum_apply_batch_seconds',
    help: 'Time of an apply transaction.',
    labelNames: ['origin', 'target'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
    registers: [registry],
  });

/** Of continuous verification. */
function verifyMetrics(registry: Registry) {
  const registers = [registry];
  const labelNames = ['collection'] as const;
  return {
    differences: new Counter({
      name: 'pgquorum_verify_differences_total',
      help: 'Keys in which masters differed.',
      labelNames,
      registers,
    }),
    mended: new Counter({
      name: 'pgquorum_verify_mended_total',
      help: 'Those of them that were merged.',
      labelNames,
      registers,
    }),
    verifiedAt: new Gauge({
      name: 'pgquorum_verified_timestamp_seconds',
      help: "When the shard of a served node's share that was verified longest ago was; 0 = some never were.",
      labelNames: ['node', 'collection'] as const,
      registers,
    }),
    purged: new Counter({
      name: 'pgquorum_tombstones_purged_total',
      help: 'Tombstones that were purged on all masters.',
      labelNames,
      registers,
    }),
    purgingWaits: new Gauge({
      name: 'pgquorum_purging_waits',
      help: 'Why the replicator of a node may purge no tombstones of a collection: 1 for the reason, and no line while nothing is in the way.',
      labelNames: ['node', 'collection', 'reason'] as const,
      registers,
    }),
  };
}
