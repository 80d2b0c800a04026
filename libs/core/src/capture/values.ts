/** Decoding of the few column types that replication itself looks into, from Postgres's binary format. Pure. */
import { PgquorumError } from '../errors/error.ts';
import type { Clock } from '../versioning/clock.ts';

/** Milliseconds of a Postgres timestamp with time zone in binary form. */
export const readTimestampMs = (value: Buffer): number =>
  946_684_800_000 + Number(value.readBigInt64BE(0)) / 1000;

export const readUuid = (value: Buffer): string => {
  const hex = value.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
};

/** The text of a jsonb value: a version byte comes first. */
export const readJsonbText = (value: Buffer): string => value.toString('utf8', 1);

export const readClock = (value: Buffer): Clock => JSON.parse(readJsonbText(value)) as Clock;

const postgresEpochDays = Date.UTC(2000, 0, 1) / 86_400_000;

/** The canonical text of a key column: what `::text` gives in SQL. Only types with one canonical text are accepted as keys. */
export function readKeyText(type: string, value: Buffer): string {
  switch (type) {
    case 'text':
    case 'varchar':
      return value.toString('utf8');
    case 'int2':
      return String(value.readInt16BE(0));
    case 'int4':
      return String(value.readInt32BE(0));
    case 'int8':
      return String(value.readBigInt64BE(0));
    case 'uuid':
      return readUuid(value);
    case 'bool':
      return value[0] === 1 ? 'true' : 'false';
    case 'date':
      return new Date((postgresEpochDays + value.readInt32BE(0)) * 86_400_000).toISOString().slice(0, 10);
    case 'bytea':
      return `\\x${value.toString('hex')}`;
    default:
      throw new PgquorumError(
        'schema_drift',
        `a key column has type ${type}, which has no single canonical text`,
      );
  }
}
