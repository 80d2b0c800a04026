/**
 * Every setting of pgquorum, in one typed table: name, default, unit, range and a sentence. Values come from the environment or from
 * `pgquorum.yaml` (the environment wins). All mistakes are reported together. The table is the source of `--help` and of docs/settings.md.
 */
import { z } from 'zod';
import { parse as parseYaml } from 'yaml';
import { PgquorumError } from '../errors/error.ts';
import { placementKinds } from '../placement/kind.ts';
import { accessSettings, type UnsetAccessKey } from './access-settings.ts';
import { limitSettings, type UnsetLimitKey } from './limit-settings.ts';
import { replicationSettings } from './replication-settings.ts';
import { kafkaSecuritySettings } from './kafka-security-settings.ts';
import { levels } from '../writes/levels.ts';
import { commaList, integer, MIB, setting, text, type Setting } from './setting.ts';

export const nodeNamePattern = /^[a-z][a-z0-9_-]{0,31}$/;
export const collectionNamePattern = /^[a-z][a-z0-9_]{0,47}$/;

export const nodeAddress = z.strictObject({
  name: z.string().regex(nodeNamePattern, 'a node name matches ^[a-z][a-z0-9_-]{0,31}$'),
  url: z.string().regex(/^postgres(ql)?:\/\//, 'a node url begins with postgres://'),
  zone: z.string().min(1).default('default'),
  weight: z.number().positive().default(1),
});
export type NodeAddress = z.infer<typeof nodeAddress>;

const nodeList = z
  .array(nodeAddress)
  .min(1)
  .superRefine((nodes, context) => {
    const names = nodes.map((node) => node.name);
    for (const name of new Set(names.filter((name, at) => names.indexOf(name) !== at))) {
      context.addIssue({ code: 'custom', message: `node name ${name} is listed twice` });
    }
  });

/** The table. Keys are the names used in code; `env` the public ones. */
export const settingsTable = {
  nodes: setting(
    'PGQUORUM_NODES',
    nodeList,
    undefined,
    'The masters, as JSON: [{"name","url","zone","weight"}].',
    { secret: true },
  ),
  cluster: setting(
    'PGQUORUM_CLUSTER',
    text(nodeNamePattern),
    'default',
    'Id of the cluster; part of slot, publication and topic names.',
  ),
  host: setting(
    'PGQUORUM_HOST',
    text(),
    '127.0.0.1',
    'Address to listen on. Anything but loopback needs PGQUORUM_API_KEYS or tokens (PGQUORUM_JWT_…).',
  ),
  zone: setting('PGQUORUM_ZONE', text(), undefined, 'The zone in which this process runs.'),
  httpPort: setting(
    'PGQUORUM_HTTP_PORT',
    integer(0, 65535),
    8080,
    'HTTP port of the gateway; 0 = any free port.',
  ),
  grpcPort: setting(
    'PGQUORUM_GRPC_PORT',
    integer(0, 65535),
    50051,
    'gRPC port of the gateway; 0 = any free port.',
  ),
  metricsPort: setting(
    'PGQUORUM_METRICS_PORT',
    integer(0, 65535),
    undefined,
    'Port on which a replicator serves /healthz, /readyz and /metrics; unset = none, 0 = any free port.',
  ),
  dataDir: setting(
    'PGQUORUM_DATA_DIR',
    text(),
    '.pgquorum',
    'Folder of the embedded cluster: masters, logs, cluster.json.',
  ),
  pgBin: setting(
    'PGQUORUM_PG_BIN',
    text(),
    undefined,
    'Folder with the Postgres programs for the embedded masters.',
  ),
  pgMajor: setting(
    'PGQUORUM_PG_MAJOR',
    integer(16, 18).pipe(z.union([z.literal(16), z.literal(18)])),
    18,
    'Major version of the embedded masters.',
  ),
  pgImage: setting(
    'PGQUORUM_PG_IMAGE',
    text(),
    'pgvector/pgvector:pg18',
    'Docker image for embedded masters where no local Postgres is found.',
  ),
  kafkaBrokers: setting(
    'PGQUORUM_KAFKA_BROKERS',
    commaList,
    undefined,
    'Comma list of host:port; set = the change log is Kafka.',
  ),
  kafkaPartitions: setting(
    'PGQUORUM_KAFKA_PARTITIONS',
    integer(1, 1024),
    8,
    'Partitions of a new change topic.',
  ),
  kafkaReplication: setting(
    'PGQUORUM_KAFKA_REPLICATION',
    integer(1, 16),
    undefined,
    'Replication factor of a new change topic; unset = min(3, brokers).',
  ),
  ...kafkaSecuritySettings,
  ...accessSettings,
  ...limitSettings,
  logLevel: setting(
    'PGQUORUM_LOG_LEVEL',
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']),
    'info',
    'Lowest level that is logged.',
  ),
  replicatorNodes: setting(
    'PGQUORUM_REPLICATOR_NODES',
    commaList,
    undefined,
    'Comma list of the nodes that this replicator process serves; unset = all.',
  ),
  consistencyLevel: setting(
    'PGQUORUM_CONSISTENCY_LEVEL',
    z.enum(levels),
    'quorum',
    'Consistency of a write that names none, in collections that name none.',
  ),
  conflictResolution: setting(
    'PGQUORUM_CONFLICT_RESOLUTION',
    z.enum(['lww', 'vector-clock']),
    'lww',
    'Conflict strategy of a collection that names none.',
  ),
  numShards: setting(
    'PGQUORUM_NUM_SHARDS',
    integer(1, 4096),
    64,
    'Shards of a collection that names no number.',
  ),
  virtualNodes: setting(
    'PGQUORUM_VIRTUAL_NODES',
    integer(1, 10_000),
    150,
    'Points of a node of weight 1 on the ring, with PGQUORUM_PLACEMENT=ketama.',
  ),
  placement: setting(
    'PGQUORUM_PLACEMENT',
    z.enum(placementKinds),
    'ketama',
    'How the order of nodes for a shard is found; the same for all processes.',
  ),
  ...replicationSettings,
  resolversDir: setting(
    'PGQUORUM_RESOLVERS_DIR',
    text(),
    undefined,
    'Folder with the modules of custom resolvers, the same at every gateway and replicator; unset = SQL functions only.',
  ),
  resolverTimeoutMs: setting(
    'PGQUORUM_RESOLVER_TIMEOUT_MS',
    integer(10, 600_000),
    1000,
    'The longest that a custom resolver may take for one conflict.',
    { unit: 'ms' },
  ),
  resolverMemoryBytesMax: setting(
    'PGQUORUM_RESOLVER_MEMORY_BYTES_MAX',
    integer(16 * MIB, 4096 * MIB),
    128 * MIB,
    'The most memory that the module of a custom resolver may take.',
    { unit: 'bytes' },
  ),
  poolMax: setting('PGQUORUM_POOL_MAX', integer(1, 500), 10, 'Connections of the gateway per node.'),
  fanOutSessions: setting(
    'PGQUORUM_FAN_OUT_SESSIONS',
    integer(1, 100),
    2,
    'Connections per node, beside those of PGQUORUM_POOL_MAX, by which a gateway takes writes at QUORUM and ALL to further replicas.',
  ),
  bodyBytesMax: setting(
    'PGQUORUM_BODY_BYTES_MAX',
    integer(1024, 512 * MIB),
    32 * MIB,
    'Largest request body.',
    { unit: 'bytes' },
  ),
  batchItemsMax: setting(
    'PGQUORUM_BATCH_ITEMS_MAX',
    integer(1, 100_000),
    5000,
    'Most vectors in one request.',
  ),
} as const;

type Table = typeof settingsTable;
/** Settings whose default is `undefined` may be undefined; all others are present. */
export type Settings = {
  readonly [K in keyof Table]: K extends UnsetKey
    ? z.infer<Table[K]['schema']> | undefined
    : z.infer<Table[K]['schema']>;
};
type UnsetKey =
  | 'nodes'
  | 'zone'
  | 'metricsPort'
  | 'pgBin'
  | 'kafkaBrokers'
  | 'kafkaReplication'
  | Exclude<keyof typeof kafkaSecuritySettings, 'kafkaTls'>
  | UnsetAccessKey
  | UnsetLimitKey
  | 'replicatorNodes'
  | 'resolversDir';

/** Names with this prefix belong to the test harness, not to the product, and are left alone. */
const foreignPrefix = 'PGQUORUM_TEST_';

/** Reads the environment and, below it, the text of `pgquorum.yaml`. Throws one `settings_invalid` that lists every mistake. */
export function loadSettings(env: Readonly<Record<string, string | undefined>>, yamlText?: string): Settings {
  const mistakes: string[] = [];
  const fromFile = yamlText === undefined ? {} : readYaml(yamlText, mistakes);
  const known = new Set<string>(Object.values(settingsTable).map((entry) => entry.env));
  for (const name of [...Object.keys(env), ...Object.keys(fromFile)]) {
    if (name.startsWith('PGQUORUM_') && !name.startsWith(foreignPrefix) && !known.has(name))
      mistakes.push(`${name}: unknown setting`);
  }
  const result: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(settingsTable) as [string, Setting<z.ZodType>][]) {
    const fromEnv = env[entry.env];
    const raw = fromEnv !== undefined && fromEnv !== '' ? fromEnv : fromFile[entry.env];
    if (raw === undefined) result[key] = entry.fallback;
    else result[key] = readValue(key, entry, raw, mistakes);
  }
  if (mistakes.length > 0) throw new PgquorumError('settings_invalid', mistakes.join('; '));
  return result as Settings;
}

function readValue(key: string, entry: Setting<z.ZodType>, raw: unknown, mistakes: string[]): unknown {
  let value = raw;
  if (key === 'nodes' && typeof raw === 'string') {
    try {
      value = JSON.parse(raw);
    } catch {
      mistakes.push(`${entry.env}: is not JSON`);
      return undefined;
    }
  }
  const parsed = entry.schema.safeParse(value);
  if (parsed.success) return parsed.data;
  for (const issue of parsed.error.issues)
    mistakes.push(
      `${entry.env}: ${issue.path.length > 0 ? `${issue.path.join('.')}: ` : ''}${issue.message}`,
    );
  return undefined;
}

function readYaml(yamlText: string, mistakes: string[]): Record<string, unknown> {
  try {
    const value: unknown = parseYaml(yamlText);
    if (value === null || value === undefined) return {};
    if (typeof value === 'object' && !Array.isArray(value)) {
      const entries = Object.entries(value as Record<string, unknown>);
      for (const [name] of entries.filter(([name]) => !name.startsWith('PGQUORUM_')))
        mistakes.push(`${name}: unknown setting`);
      return Object.fromEntries(entries);
    }
    mistakes.push('pgquorum.yaml: is not a map of settings');
  } catch (cause) {
    mistakes.push(`pgquorum.yaml: ${(cause as Error).message.split('\n')[0]}`);
  }
  return {};
}

/** The table as lines for `--help`. */
export function describeSettings(): string[] {
  return Object.values(settingsTable).map((entry) => {
    const shown = entry.fallback === undefined ? 'unset' : String(entry.fallback);
    return `${entry.env} (${shown}${'unit' in entry && entry.unit ? ` ${entry.unit}` : ''}): ${entry.about}`;
  });
}
