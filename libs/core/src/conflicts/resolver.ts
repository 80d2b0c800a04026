/**
 * What a custom resolver is given and may answer. It runs at one node only, and its result is written as a new version that has seen all of what it was made of,
 * so it may be any function: masters agree whatever it does. Pure.
 */
import { createHash } from 'node:crypto';
import type { Version } from '../versioning/version.ts';

export type JsonValue =
  null | boolean | number | string | readonly JsonValue[] | { readonly [name: string]: JsonValue };

export interface SideVersion {
  /** The number of the node that wrote it. */
  readonly origin: number;
  /** 64-bit numbers are texts. */
  readonly counter: string;
  readonly hlc: string;
  readonly clock: Readonly<Record<string, number>>;
  readonly rank: number;
  readonly deleted: boolean;
}

export interface ResolverSide {
  /** Column -> value; null when this side has deleted the key. */
  readonly row: Readonly<Record<string, JsonValue>> | null;
  readonly version: SideVersion;
}

export interface ResolverContext {
  readonly collection: string;
  readonly key: string;
  readonly shard: number;
  /** Id and kind of the conflict whose loser is `theirs`. */
  readonly conflict: string;
  readonly kind: string;
  /** The node that resolves. */
  readonly node: string;
}

/** A resolver that can be asked. `version` is of its text: another text is another version. */
export interface Resolver {
  readonly name: string;
  readonly version: string;
  /** Throws a ResolverFailure when it gives nothing. */
  resolve(ours: ResolverSide, theirs: ResolverSide, context: ResolverContext): Promise<unknown>;
}

/** The resolver, not the database, is what failed: the conflict stays open with this reason. */
export class ResolverFailure extends Error {}

export type ResolverName =
  | { readonly kind: 'sql'; readonly schema: string; readonly name: string }
  | { readonly kind: 'module'; readonly file: string };

/** Of a name that the rules of a collection allow. */
export function parseResolverName(text: string): ResolverName {
  const rest = text.slice(text.indexOf(':') + 1);
  if (text.startsWith('module:')) return { kind: 'module', file: rest };
  const dot = rest.indexOf('.');
  return { kind: 'sql', schema: rest.slice(0, dot), name: rest.slice(dot + 1) };
}

const versionDigits = 12;

export const resolverVersion = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, versionDigits);

/** What a record says who decided it. */
export const decidedByResolver = (resolver: Pick<Resolver, 'name' | 'version'>): string =>
  `custom:${resolver.name}@${resolver.version}`;

export const sideVersion = (version: Version): SideVersion => ({
  origin: version.dot.origin,
  counter: String(version.dot.counter),
  hlc: String(version.hlc),
  clock: version.clock,
  rank: version.rank,
  deleted: version.deleted,
});
