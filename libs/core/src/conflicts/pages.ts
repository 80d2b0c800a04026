/** One page of the pages of several nodes, each of which lists other records. Pure. */
import type { ListPosition } from './query.ts';

export interface Page<Row> {
  readonly rows: readonly Row[];
  /** From where there may be more. */
  readonly more: ListPosition | null;
}

/** Newest first, then by id. */
const isBefore = (a: ListPosition, b: ListPosition): boolean =>
  a.foundAt === b.foundAt ? a.id < b.id : a.foundAt > b.foundAt;

/** A page that ends says nothing of what comes behind its end: neither does the whole. */
export function mergePages<Row>(
  pages: readonly Page<Row>[],
  limit: number,
  positionOf: (row: Row) => ListPosition,
): Page<Row> {
  const ends = pages.flatMap(({ more }) => (more === null ? [] : [more]));
  const end = ends.reduce<ListPosition | null>(
    (first, one) => (first === null || isBefore(one, first) ? one : first),
    null,
  );
  const known = pages
    .flatMap(({ rows }) => rows)
    .filter((row) => end === null || !isBefore(end, positionOf(row)))
    .toSorted((a, b) => (isBefore(positionOf(a), positionOf(b)) ? -1 : 1));
  const rows = known.slice(0, limit);
  return { rows, more: known.length > limit ? positionOf(rows.at(-1)!) : end };
}
