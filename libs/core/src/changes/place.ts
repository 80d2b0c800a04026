/**
 * A place in the changes of a whole cluster: for each origin how far its log has been read, and which log that was, since positions mean nothing in
 * another one of the same name. As text it is what clients keep and come back with, at any gateway. Pure.
 */
import type { Position } from '../changelog/change.ts';
import type { Positions } from '../changelog/port.ts';
import { PgquorumError } from '../errors/error.ts';
import { invalid } from '../requests/fields.ts';

/** Up to where one origin's log is held, each stream inclusive; a stream that is missing begins at its beginning. */
export interface OriginPlace {
  readonly generation: string;
  readonly positions: Positions;
}

/** By the name of the origin. */
export type Place = ReadonlyMap<string, OriginPlace>;

/** What an origin's log holds now. */
export interface HeldLog {
  readonly generation: string;
  /** Everything after these can be read. */
  readonly first: Positions;
  readonly end: Positions;
}

const format = '1';
const placePattern = /^1(?:~[a-z][a-z0-9_-]{0,31}~[A-Za-z0-9_-]{0,64}~[0-9a-z.]{0,20000})+$/;
const positionMax = 2n ** 63n - 1n;

/** Only characters that mean nothing in URLs and headers: positions in base 36, in the order of the streams, with nothing for one that is missing. */
export function placeText(place: Place): string {
  const parts = [...place].map(([name, { generation, positions }]) => {
    const streams = Math.max(-1, ...positions.keys()) + 1;
    const texts = Array.from({ length: streams }, (_, stream) => positions.get(stream)?.toString(36) ?? '');
    return `~${name}~${generation}~${texts.join('.')}`;
  });
  return format + parts.join('');
}

export function parsePlace(text: string): Place {
  if (!placePattern.test(text)) throw invalid('from: is not a position of this stream');
  const parts = text.split('~').slice(1);
  const place = new Map<string, OriginPlace>();
  for (let at = 0; at < parts.length; at += 3) {
    const texts = parts[at + 2]!.split('.');
    const positions = new Map<number, Position>();
    for (const [stream, digits] of texts.entries())
      if (digits !== '') positions.set(stream, fromBase36(digits));
    place.set(parts[at]!, { generation: parts[at + 1]!, positions });
  }
  return place;
}

function fromBase36(digits: string): bigint {
  let value = 0n;
  for (const digit of digits.slice(0, 13)) value = value * 36n + BigInt(Number.parseInt(digit, 36));
  if (digits.length > 13 || value > positionMax) throw invalid('from: is not a position of this stream');
  return value;
}

const beforeAll = -1n;

/** Throws `position_expired` unless everything after the place can still be read. */
export function checkHeld(origin: string, place: OriginPlace, held: HeldLog): void {
  const expired = (why: string) =>
    new PgquorumError('position_expired', `the changes of ${origin} after this position: ${why}`);
  if (place.generation !== held.generation)
    throw expired('the log that the position belongs to is no longer there');
  for (const [stream, first] of held.first)
    if ((place.positions.get(stream) ?? beforeAll) < first) throw expired('some of them are no longer held');
  for (const [stream, position] of place.positions)
    if (position > (held.end.get(stream) ?? beforeAll)) throw expired('the log ends before it');
}
