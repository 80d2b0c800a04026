/** The settings of replication, a part of the one table in settings.ts. Pure. */
import { z } from 'zod';
import { integer, MIB, setting } from './setting.ts';

export const replicationSettings = {
  syncIntervalMs: setting(
    'PGQUORUM_SYNC_INTERVAL_MS',
    integer(0, 60_000),
    0,
    'The longest that a small batch may linger before it is applied.',
    { unit: 'ms' },
  ),
  batchSize: setting(
    'PGQUORUM_BATCH_SIZE',
    integer(1, 10_000),
    500,
    'Most changes in one apply transaction.',
    { unit: 'changes' },
  ),
  compression: setting(
    'PGQUORUM_COMPRESSION',
    z.enum(['none', 'gzip']),
    'none',
    'Compression of messages in Kafka.',
  ),
  applyLanes: setting('PGQUORUM_APPLY_LANES', integer(1, 64), 2, 'Parallel appliers per edge, by shard.'),
  transactionBytesMax: setting(
    'PGQUORUM_TRANSACTION_BYTES_MAX',
    integer(64 * 1024, 4096 * MIB),
    64 * MIB,
    'Rows of one transaction held in memory by capture; beyond it they are re-read.',
    { unit: 'bytes' },
  ),
  resyncKeysPerS: setting(
    'PGQUORUM_RESYNC_KEYS_PER_S',
    integer(1, 10_000_000),
    20_000,
    'Most keys that the resync of an edge copies in a second.',
    { unit: 'keys' },
  ),
  requestRetentionMs: setting(
    'PGQUORUM_REQUEST_RETENTION_MS',
    integer(60_000, 2_592_000_000),
    86_400_000,
    'How long a node remembers gateway requests, so that repeating one with its Idempotency-Key is safe.',
    { unit: 'ms' },
  ),
  conflictsKeptMax: setting(
    'PGQUORUM_CONFLICTS_KEPT_MAX',
    integer(0, 100_000_000),
    1_000_000,
    'Most conflict records that are no longer open which a node keeps; the oldest go first. Open ones are always kept.',
    { unit: 'records' },
  ),
  conflictsKeptMs: setting(
    'PGQUORUM_CONFLICTS_KEPT_MS',
    integer(60_000, 315_360_000_000),
    7_776_000_000,
    'How long a node keeps conflict records that are no longer open. Open ones are always kept.',
    { unit: 'ms' },
  ),
  eventsKeptMs: setting(
    'PGQUORUM_EVENTS_KEPT_MS',
    integer(60_000, 2_592_000_000),
    86_400_000,
    'How long a node remembers events, so that a stream of them can be resumed.',
    { unit: 'ms' },
  ),
  heartbeatIntervalMs: setting(
    'PGQUORUM_HEARTBEAT_INTERVAL_MS',
    integer(50, 60_000),
    1000,
    'How often a node writes its heartbeat row.',
    { unit: 'ms' },
  ),
  failureTimeoutMs: setting(
    'PGQUORUM_FAILURE_TIMEOUT_MS',
    integer(200, 600_000),
    5000,
    'Silence after which a node is reported down.',
    { unit: 'ms' },
  ),
  lagReadyMaxMs: setting(
    'PGQUORUM_LAG_READY_MAX_MS',
    integer(100, 3_600_000),
    30_000,
    'An edge that lags more than this makes /readyz answer 503.',
    { unit: 'ms' },
  ),
  lagExceededMs: setting(
    'PGQUORUM_LAG_EXCEEDED_MS',
    integer(100, 86_400_000),
    10_000,
    'An edge that lags more than this is told as an event `lag-exceeded`, and again when it lags less than half of it.',
    { unit: 'ms' },
  ),
  clockDriftMaxMs: setting(
    'PGQUORUM_CLOCK_DRIFT_MAX_MS',
    integer(1, 86_400_000),
    500,
    'A node whose clock is further than this from the median of the nodes is reported degraded. Its changes are applied all the same.',
    { unit: 'ms' },
  ),
} as const;
