/** A version as the API shows it. 64-bit numbers are texts; the origin is a node's name; the clock is by number, since a node may have had several. Pure. */
import type { Clock } from './clock.ts';
import { dotText } from './version.ts';

export interface VersionView {
  /** `<number>.<counter>`, as in `ETag` and `If-Match`. */
  readonly text: string;
  readonly origin: string;
  readonly counter: string;
  /** Null when a repeated request names a write that has been replaced since. */
  readonly hlc: string | null;
  readonly clock: Readonly<Record<string, string>> | null;
}

/** Columns of a version table, bigints as text. */
export interface VersionColumns {
  readonly hlc: string;
  readonly origin: number;
  readonly counter: string;
  readonly clock: Clock;
}

export type NameOfNode = (number: number) => string;

export const clockView = (clock: Clock): Record<string, string> =>
  Object.fromEntries(Object.entries(clock).map(([node, counter]) => [node, String(counter)]));

export const versionText = (origin: number, counter: string): string =>
  dotText({ origin, counter: Number(counter) });

export const versionView = (version: VersionColumns, nameOf: NameOfNode): VersionView => ({
  text: versionText(version.origin, version.counter),
  origin: nameOf(version.origin),
  counter: version.counter,
  hlc: version.hlc,
  clock: clockView(version.clock),
});
