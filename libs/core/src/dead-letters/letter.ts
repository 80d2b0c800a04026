/** A dead letter as it stands in its node's table, and as it is shown. Pure. */
import type { NameOfNode } from '../versioning/version-view.ts';
import { letterIdText } from './query.ts';

/** 64-bit numbers are texts, times are microseconds in UTC. */
export interface StoredLetter {
  readonly number: string;
  readonly origin: number;
  readonly log: string;
  readonly lsn: string | null;
  readonly collection: string;
  readonly key: string;
  readonly change: string | null;
  readonly code: string | null;
  readonly sqlstate: string | null;
  readonly message: string;
  readonly commitTime: string | null;
  readonly at: string;
  readonly tries: number;
  readonly triedAt: string | null;
  readonly bytes: number;
}

export interface LetterView extends Omit<StoredLetter, 'number' | 'origin'> {
  readonly id: string;
  /** The node that can not take the change. */
  readonly node: string;
  /** The node where it was written. */
  readonly origin: string;
}

const time = (column: string): string =>
  `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

export const letterColumns = `d.id::text as number, d.origin, d.log, ('0/0'::pg_lsn + d.position)::text as lsn, d.collection, d.key, d.change, d.code, d.sqlstate, d.message,
  ${time('d.commit_time')} as "commitTime", ${time('d.at')} as at, d.tries, ${time('d.tried_at')} as "triedAt", length(d.payload) as bytes`;

export const letterView = (
  { number, origin, ...letter }: StoredLetter,
  node: string,
  nameOf: NameOfNode,
): LetterView => ({ id: letterIdText({ node, number }), node, origin: nameOf(origin), ...letter });
