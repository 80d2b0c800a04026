/** How a program that embeds replication says what it wants: the seeds' names, turned into the settings that the applications read. */
import { loadSettings, type Settings } from '#core/config/settings.ts';

export interface ReplicaAddress {
  readonly name: string;
  /** `postgres://…` of the unprivileged role that pgquorum uses. */
  readonly url: string;
  readonly zone?: string;
  readonly weight?: number;
}

export interface ReplicationConfig {
  /** The masters. */
  readonly nodes: readonly ReplicaAddress[];
  readonly cluster?: string;
  /** On how many masters each shard of a new collection is held; unset = on all of them. */
  readonly replicationFactor?: number;
  /** Of writes that name none. */
  readonly consistencyLevel?: 'one' | 'quorum' | 'all';
  /** The longest that a small batch may linger before it is applied. */
  readonly syncIntervalMs?: number;
  readonly batchSize?: number;
  /** Of messages in Kafka. */
  readonly compression?: boolean;
  /** Of collections that name none. */
  readonly conflictResolution?: 'lww' | 'vector-clock';
  /** Set = the change log is Kafka. */
  readonly kafkaBrokers?: readonly string[];
  /** Names of the nodes that this process carries changes to; unset = all. */
  readonly serves?: readonly string[];
  /** Lowest level that is logged; unset = nothing is. */
  readonly logLevel?: Settings['logLevel'];
  /** Where log lines (JSON) go instead of standard output. */
  readonly onLog?: (line: string) => void;
  /** Any other setting, by its name in docs/settings.md: `{ PGQUORUM_APPLY_LANES: '4' }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Reads neither the environment nor a file: what is embedded has one owner. */
export function settingsOf(config: ReplicationConfig): Settings {
  const { nodes, replicationFactor, compression } = config;
  const given: Record<string, string | undefined> = {
    PGQUORUM_NODES: JSON.stringify(nodes),
    PGQUORUM_CLUSTER: config.cluster,
    PGQUORUM_CONSISTENCY_LEVEL: config.consistencyLevel,
    PGQUORUM_SYNC_INTERVAL_MS: config.syncIntervalMs?.toString(),
    PGQUORUM_REPLICATION_FACTOR: replicationFactor?.toString(),
    PGQUORUM_BATCH_SIZE: config.batchSize?.toString(),
    PGQUORUM_COMPRESSION: compression === undefined ? undefined : compression ? 'gzip' : 'none',
    PGQUORUM_CONFLICT_RESOLUTION: config.conflictResolution,
    PGQUORUM_KAFKA_BROKERS: config.kafkaBrokers?.join(','),
    PGQUORUM_REPLICATOR_NODES: config.serves?.join(','),
    PGQUORUM_LOG_LEVEL: config.logLevel ?? 'silent',
  };
  return loadSettings({ ...config.settings, ...withoutUndefined(given) });
}

const withoutUndefined = (given: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
