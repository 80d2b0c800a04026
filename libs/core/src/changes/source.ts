/** Where the changes of one origin come from, for others than the masters: the seam between streams and the change log. */
import type { ChangeLogReader } from '../changelog/port.ts';
import type { HeldLog, OriginPlace } from './place.ts';

export interface ChangeSource {
  /** Name of the origin. */
  readonly origin: string;
  /** How many readings it affords in one process beside the one that all share. */
  readonly readingsMax: number;
  /** Who is no further behind the end than this, in positions, counts as up to date. */
  readonly nearMax: bigint;
  /** Asks the log. Throws an error that can be retried when it cannot be asked. */
  held(): Promise<HeldLog>;
  /** A reading after `place`, which `held` has shown to be there; reading throws `position_lost` when it is gone meanwhile. */
  open(place: OriginPlace): Promise<ChangeLogReader>;
  close(): Promise<void>;
}
