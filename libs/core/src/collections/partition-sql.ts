/** The shard of a key as an SQL expression, written out: a function of ours would cost each write more than what it does. Pure. */
import type { Partitioned } from '../placement/partitioning.ts';

/** `key` is an SQL expression for the key's canonical text. */
export function shardOfKeySql(key: string, { shards, partitioning }: Partitioned): string {
  if (partitioning !== undefined)
    return `width_bucket((${key}) collate "C", array[${partitioning.splitPoints.map(pointSql).join(', ')}]::text[])`;
  const hash = `sha256(convert_to(${key}, 'UTF8'))`;
  // The usual numbers of shards need but the last byte of the four: less for each write to set up.
  const inLastByte = shards <= 256 && Number.isInteger(Math.log2(shards));
  return inLastByte
    ? `get_byte(${hash}, 3) % ${shards}`
    : `('x' || encode(substr(${hash}, 1, 4), 'hex'))::bit(32)::bigint % ${shards}`;
}

/** A dollar could end the body of a trigger's function. */
const pointSql = (point: string): string =>
  `E'${point.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('$', '\\044')}'`;
