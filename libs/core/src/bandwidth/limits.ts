/**
 * The limits on what edges read, as they were set last. Each node keeps a copy; the one with the greatest (revision, setter) is true, and replicators bring
 * it to nodes that lack it: a node that was down when it was set, or was restored. Pure.
 */
import { checkFields, integerIn, invalid, isObject } from '../requests/fields.ts';

/** Null = no limit. */
export interface Limits {
  /** Of each edge. */
  readonly bytesPerSecond: number | null;
  /** Of all edges into one node together. */
  readonly totalBytesPerSecond: number | null;
}

export interface StoredLimits extends Limits {
  readonly revision: number;
  /** Tells two apart that were set at once on nodes that could not reach one another. */
  readonly setter: string;
  readonly by: string;
}

export interface LimitsView extends Limits {
  /** Counts the changes, for `If-Match`; "0" = never set: what the settings say holds. */
  readonly revision: string;
}

const lowest = 1024;
const highest = 1e12;

/** From a body that has at least one of the two; what it leaves out stays as it is. */
export function readLimits(body: unknown): Partial<Limits> {
  if (!isObject(body)) throw invalid('the body: must be an object');
  checkFields(body, '', ['bytesPerSecond', 'totalBytesPerSecond']);
  const fields = Object.entries(body).filter(([, value]) => value !== undefined);
  if (fields.length === 0) throw invalid('bytesPerSecond: is needed');
  return Object.fromEntries(
    fields.map(([field, value]) => [
      field,
      value === null ? null : integerIn(field, value, { min: lowest, max: highest }),
    ]),
  );
}

/** Settings say 0 for no limit. */
export const limitsOf = (settings: {
  readonly bandwidthBytesPerS: number;
  readonly bandwidthTotalBytesPerS: number;
}): Limits => ({
  bytesPerSecond: settings.bandwidthBytesPerS || null,
  totalBytesPerSecond: settings.bandwidthTotalBytesPerS || null,
});

export const isNewer = (a: StoredLimits, b: StoredLimits | null): boolean =>
  b === null || a.revision > b.revision || (a.revision === b.revision && a.setter > b.setter);

export const newest = (all: readonly (StoredLimits | null)[]): StoredLimits | null =>
  all.reduce((found, one) => (one !== null && isNewer(one, found) ? one : found), null);

export const limitsView = (stored: StoredLimits | null, settings: Limits): LimitsView => ({
  bytesPerSecond: (stored ?? settings).bytesPerSecond,
  totalBytesPerSecond: (stored ?? settings).totalBytesPerSecond,
  revision: String(stored?.revision ?? 0),
});
