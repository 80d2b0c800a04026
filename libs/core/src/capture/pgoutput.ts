/**
 * Parser of the pgoutput protocol, version 1. Pure: bytes in, values out, nothing copied. Tuples stay undecoded: most columns are
 * passed on as they are. Format: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */
import { PgquorumError } from '../errors/error.ts';

export interface RelationColumn {
  readonly name: string;
  readonly typeOid: number;
  readonly isKey: boolean;
}

export interface Relation {
  readonly id: number;
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly RelationColumn[];
}

/** A value in a tuple: bytes, SQL null, or not sent because a TOASTed value did not change. */
export const unchanged: unique symbol = Symbol('unchanged');
export type TupleValue = Buffer | null | typeof unchanged;

const absentLength = { sqlNull: -1, unchanged: -2 } as const;

/** The columns of a row, within the message that brought them: slices of it are made for those that are asked for, since each costs as much as reading it. */
export class Tuple {
  readonly message: Buffer;
  /** Start and length of each column in turn. */
  private readonly places: readonly number[];
  /** Was any value left out because it did not change? */
  readonly incomplete: boolean;

  constructor(message: Buffer, places: readonly number[], incomplete: boolean) {
    this.message = message;
    this.places = places;
    this.incomplete = incomplete;
  }

  at(column: number): TupleValue {
    const length = this.places[2 * column + 1];
    if (length === undefined || length === absentLength.sqlNull) return null;
    if (length === absentLength.unchanged) return unchanged;
    const start = this.places[2 * column]!;
    return this.message.subarray(start, start + length);
  }

  /** Where the value's bytes begin in the message; throws when there are none. */
  startOf(column: number | undefined): number {
    if (column === undefined || !this.has(column))
      throw new TypeError('a required column of a version or conflict row is missing');
    return this.places[2 * column]!;
  }

  endOf(column: number | undefined): number {
    return this.startOf(column) + this.places[2 * column! + 1]!;
  }

  has(column: number): boolean {
    return (this.places[2 * column + 1] ?? -1) >= 0;
  }

  /** Of a tuple that is complete. */
  values(): (Buffer | null)[] {
    const values: (Buffer | null)[] = [];
    for (let column = 0; column < this.places.length / 2; column += 1)
      values.push(this.at(column) as Buffer | null);
    return values;
  }

  /** Bytes of its values. */
  get bytes(): number {
    let sum = 0;
    for (let at = 1; at < this.places.length; at += 2) sum += Math.max(0, this.places[at]!);
    return sum;
  }
}

export type PgoutputMessage =
  | { readonly kind: 'begin'; readonly commitLsn: bigint; readonly commitTimeMs: number }
  | { readonly kind: 'commit'; readonly endLsn: bigint }
  | { readonly kind: 'relation'; readonly relation: Relation }
  | { readonly kind: 'type'; readonly oid: number; readonly name: string }
  | { readonly kind: 'row'; readonly relationId: number; readonly tuple: Tuple }
  | { readonly kind: 'ignored' };

/** Microseconds from 1970 to 2000, Postgres's epoch. */
const postgresEpochMs = 946_684_800_000;

const ignored: PgoutputMessage = { kind: 'ignored' };

export function parsePgoutput(message: Buffer): PgoutputMessage {
  switch (message[0]) {
    case 0x49: // I: relation id, 'N', tuple
      return { kind: 'row', relationId: message.readUInt32BE(1), tuple: readTuple(message, 6).tuple };
    case 0x55: // U: relation id, perhaps 'K' or 'O' with the old tuple, 'N', the new one
      return parseUpdate(message);
    case 0x42: // B
      return {
        kind: 'begin',
        commitLsn: message.readBigUInt64BE(1),
        commitTimeMs: postgresEpochMs + Number(message.readBigInt64BE(9)) / 1000,
      };
    case 0x43: // C: flags, commit LSN, end LSN
      return { kind: 'commit', endLsn: message.readBigUInt64BE(10) };
    case 0x52: // R
      return { kind: 'relation', relation: parseRelation(message) };
    case 0x59: // Y
      return parseType(message);
    case 0x44: // D: deletes are not published; tombstones say them
    case 0x54: // T: likewise
    case 0x4f: // O: origin
    case 0x4d: // M: logical message
      return ignored;
    default:
      throw new PgquorumError('invariant_broken', `unknown pgoutput message ${message[0]}`);
  }
}

function parseUpdate(message: Buffer): PgoutputMessage {
  let at = 5;
  if (message[at] !== 0x4e) at = readTuple(message, at + 1).end;
  return { kind: 'row', relationId: message.readUInt32BE(1), tuple: readTuple(message, at + 1).tuple };
}

function readTuple(message: Buffer, start: number): { tuple: Tuple; end: number } {
  const count = message.readUInt16BE(start);
  const places: number[] = [];
  let incomplete = false;
  let at = start + 2;
  for (let column = 0; column < count; column += 1) {
    const kind = message[at];
    at += 1;
    if (kind === 0x62) {
      const length = message.readUInt32BE(at);
      places.push(at + 4, length);
      at += 4 + length;
    } else if (kind === 0x6e) places.push(0, absentLength.sqlNull);
    else if (kind === 0x75) {
      places.push(0, absentLength.unchanged);
      incomplete = true;
    } else
      throw new PgquorumError(
        'invariant_broken',
        `a column came in text format or as kind ${kind}: its type has no binary output`,
      );
  }
  return { tuple: new Tuple(message, places, incomplete), end: at };
}

function parseRelation(message: Buffer): Relation {
  const reader = { at: 5 };
  const schema = readText(message, reader) || 'pg_catalog';
  const name = readText(message, reader);
  const count = message.readUInt16BE(reader.at + 1); // after the replica identity
  reader.at += 3;
  const columns: RelationColumn[] = [];
  for (let column = 0; column < count; column += 1) {
    const isKey = (message[reader.at]! & 1) === 1;
    reader.at += 1;
    const columnName = readText(message, reader);
    columns.push({ name: columnName, typeOid: message.readUInt32BE(reader.at), isKey });
    reader.at += 8; // type and modifier
  }
  return { id: message.readUInt32BE(1), schema, name, columns };
}

function parseType(message: Buffer): PgoutputMessage {
  const reader = { at: 5 };
  readText(message, reader);
  return { kind: 'type', oid: message.readUInt32BE(1), name: readText(message, reader) };
}

function readText(message: Buffer, reader: { at: number }): string {
  const end = message.indexOf(0, reader.at);
  const text = message.toString('utf8', reader.at, end);
  reader.at = end + 1;
  return text;
}
