/** Hybrid logical clock values: 48-bit milliseconds << 16 | 16-bit logical part, as in the version tables. Pure. */
import type { HlcValue } from './version.ts';

export const hlcFromMs = (ms: number): HlcValue => (BigInt(Math.floor(ms)) << 16n) as HlcValue;

export const hlcMs = (hlc: HlcValue): number => Number((hlc as bigint) >> 16n);

/** The next value for a write that replaces one of `previous`: never below the wall clock, always above what it replaces. The logical part flows over into the milliseconds. */
export const nextHlc = (now: HlcValue, previous: HlcValue | null): HlcValue =>
  (previous !== null && previous >= now ? previous + 1n : now) as HlcValue;
