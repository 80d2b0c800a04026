/**
 * Hybrid logical clocks as values, for use alone: as close to the wall clock as they can be, and always greater than what was seen. The functions
 * are those that versions are stamped with (hlc.ts). Pure: the wall clock comes in from outside.
 *
 *     let clock = new Hlc();
 *     clock = clock.next(Date.now()); // before a local event, which it stamps
 *     clock = clock.receive(message.hlc, Date.now()); // when a message comes in
 */
import { PgquorumError } from '../errors/error.ts';
import { hlcFromMs, hlcMs, nextHlc } from './hlc.ts';
import type { HlcValue } from './version.ts';

/** 48 bits of milliseconds, 16 of the logical part; a bigint of Postgres has a sign. */
const valueMax = (1n << 63n) - 1n;
const logicalMask = 0xffffn;

export class Hlc {
  readonly value: HlcValue;

  constructor(value: bigint = 0n) {
    if (value < 0n || value > valueMax) throw invalidHlc(`${value} is out of range`);
    this.value = value as HlcValue;
  }

  static fromMs(ms: number): Hlc {
    if (!Number.isFinite(ms) || ms < 0) throw invalidHlc(`${ms} is no time`);
    return new Hlc(hlcFromMs(ms));
  }

  /** Of the text that `toString` gives. */
  static parse(text: string): Hlc {
    if (!/^\d{1,19}$/.test(text)) throw invalidHlc('is a whole number as a text');
    return new Hlc(BigInt(text));
  }

  /** The milliseconds. They run ahead of the wall clock when it was set back, or when the logical part has flowed over into them. */
  get ms(): number {
    return hlcMs(this.value);
  }

  get logical(): number {
    return Number(this.value & logicalMask);
  }

  /** For an event now: the wall clock, or one more than this where the wall clock is not beyond it. */
  next(wallMs: number): Hlc {
    return new Hlc(nextHlc(Hlc.fromMs(wallMs).value, this.value));
  }

  /** For the receipt of what another node stamped: greater than both. */
  receive(other: Hlc, wallMs: number): Hlc {
    return (other.compare(this) > 0 ? other : this).next(wallMs);
  }

  /** Below 0, 0 or above 0. */
  compare(other: Hlc): number {
    return this.value < other.value ? -1 : this.value > other.value ? 1 : 0;
  }

  /** How far it is ahead of a wall clock, in milliseconds; below 0 when behind. */
  driftMs(wallMs: number): number {
    return this.ms - wallMs;
  }

  toString(): string {
    return this.value.toString();
  }

  /** A text: it has more digits than a JSON number holds. */
  toJSON(): string {
    return this.toString();
  }
}

const invalidHlc = (detail: string): PgquorumError =>
  new PgquorumError('invalid_request', `hybrid logical clock: ${detail}`);
