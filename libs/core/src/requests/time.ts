/** A time as requests name one, RFC 3339; Postgres reads the text, so that microseconds are kept. Pure. */
import { invalid } from './fields.ts';

/** Offsets as far as Postgres takes them. */
const pattern =
  /^(\d{4})-(\d{2})-(\d{2})[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-](0\d|1[0-5]):[0-5]\d)$/;

export function checkTime(field: string, value: unknown): string {
  const [, year, month, day] = (typeof value === 'string' ? pattern.exec(value) : null) ?? [];
  // JavaScript takes 30 February for a day in March, and has a year 0.
  const date = new Date(`${year}-${month}-${day}T00:00:00Z`);
  if (
    year === undefined ||
    year === '0000' ||
    Number.isNaN(date.getTime()) ||
    date.getUTCDate() !== Number(day)
  )
    throw invalid(`${field}: must be a time as in RFC 3339, 2026-01-31T12:00:00Z`);
  return value as string;
}
