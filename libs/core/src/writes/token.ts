/**
 * What a write gives back so that a later read can ask to see it, on any gateway: the names of its versions by key; of a large batch how far the logs of the nodes that
 * wrote it have to be read. Opaque to users; whoever makes one up learns nothing that he could not ask for. Pure.
 */
import { z } from 'zod';
import { PgquorumError } from '../errors/error.ts';
import type { Dot, NodeNumber } from '../versioning/version.ts';

export interface TokenWrite {
  /** Text of the key. */
  readonly id: string;
  readonly dot: Dot;
}

/** All that an origin had committed at some moment after the write. */
export interface TokenPosition {
  readonly origin: NodeNumber;
  /** End of its WAL, as a number in text. */
  readonly position: string;
  /** By its clock, in ms. */
  readonly atMs: number;
}

export interface Token {
  readonly collection: string;
  readonly writes: readonly TokenWrite[];
  readonly positions: readonly TokenPosition[];
}

/** A token goes into the query of a GET: more writes than this are told by positions. */
export const tokenWritesMax = 50;
const tokenLengthMax = 64 * 1024;

const number = z.int().min(0).max(32_767);
const counter = z.int().min(1);
const shape = z.strictObject({
  c: z.string().min(1).max(48),
  w: z
    .array(z.tuple([z.string().min(1), number, counter]))
    .max(2 * tokenWritesMax)
    .default([]),
  p: z
    .array(z.tuple([number, z.string().regex(/^\d{1,20}$/), z.int().min(0)]))
    .max(1024)
    .default([]),
});

export function encodeToken({ collection, writes, positions }: Token): string {
  const value: z.input<typeof shape> = {
    c: collection,
    ...(writes.length === 0 ? {} : { w: writes.map(({ id, dot }) => [id, dot.origin, dot.counter]) }),
    ...(positions.length === 0
      ? {}
      : { p: positions.map(({ origin, position, atMs }) => [origin, position, atMs]) }),
  };
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

export function decodeToken(text: unknown): Token {
  const no = () => new PgquorumError('invalid_token', 'token: is none that a write gave back');
  if (typeof text !== 'string' || text.length > tokenLengthMax || !/^[\w-]+$/.test(text)) throw no();
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
  } catch {
    throw no();
  }
  const parsed = shape.safeParse(value);
  if (!parsed.success) throw no();
  const { c, w, p } = parsed.data;
  return {
    collection: c,
    writes: w.map(([id, origin, count]) => ({ id, dot: { origin: origin as NodeNumber, counter: count } })),
    positions: p.map(([origin, position, atMs]) => ({ origin: origin as NodeNumber, position, atMs })),
  };
}

/** What is in either. */
export function joinTokens(a: string | null, b: string | null): string | null {
  if (a === null || b === null) return a ?? b;
  const [one, other] = [decodeToken(a), decodeToken(b)];
  return encodeToken({
    collection: one.collection,
    writes: [...one.writes, ...other.writes],
    positions: [...one.positions, ...other.positions],
  });
}

/** A version says nothing of another collection's keys. */
export function checkTokenOf(token: Token, collection: string): void {
  if (token.collection !== collection)
    throw new PgquorumError('invalid_token', `token: is of collection ${token.collection}`);
}

/** Those of some keys. */
export const writesOf = (token: Token, ids: readonly string[]): readonly TokenWrite[] => {
  const wanted = new Set(ids);
  return token.writes.filter(({ id }) => wanted.has(id));
};

export const notYetVisible = (): PgquorumError =>
  new PgquorumError('not_yet_visible', 'no node that could be asked has what the token names');
