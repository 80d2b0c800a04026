/** The shard of a key as an SQL expression, written out: a function of ours would cost each write more than what it does. Pure. */
import type { Partitioned } from '../placement/partitioning.ts';

/** `key` is an SQL expression for the key's canonical text. */
export const shardOfKeySql = (key: string, { shards, partitioning }: Partitioned): string =>
  partitioning === undefined
    ? `('x' || encode(substr(sha256(convert_to(${key}, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint % ${shards}`
    : `width_bucket((${key}) collate "C", array[${partitioning.splitPoints.map(pointSql).join(', ')}]::text[])`;

/** A dollar could end the body of a trigger's function. */
const pointSql = (point: string): string =>
  `E'${point.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('$', '\\044')}'`;
