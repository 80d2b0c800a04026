/** The limits of the settings: how often each caller may call, and how many requests there may be at once. */
import { CallRates } from '#core/access/call-rates.ts';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Identity } from './identity.ts';
import { WaitingRoom } from './waiting-room.process.ts';

export type LimitSettings = Pick<
  Settings,
  'rateLimitPerS' | 'rateLimitBurst' | 'requestsMax' | 'requestsWaitingMax' | 'requestsWaitMs'
>;

export class Limits {
  readonly room: WaitingRoom;
  readonly #rates: CallRates | null;

  constructor({ rateLimitPerS: perS, rateLimitBurst, ...settings }: LimitSettings) {
    this.room = new WaitingRoom({
      runningMax: settings.requestsMax,
      waitingMax: settings.requestsWaitingMax,
      waitMs: settings.requestsWaitMs,
    });
    this.#rates = perS === undefined ? null : new CallRates({ perS, burst: rateLimitBurst ?? perS });
  }

  /** Throws `rate_limited`. */
  count({ principal }: Identity): void {
    const waitMs = this.#rates?.take(principal, performance.now()) ?? 0;
    if (waitMs > 0)
      throw new PgquorumError('rate_limited', `${principal} may call again in ${waitMs} ms`, {
        extra: { retryAfterMs: waitMs },
      });
  }
}

/** What an answer tells of when to try again; null = nothing. */
export function retryAfterMsOf({ entry, extra }: PgquorumError): number | null {
  const { retryAfterMs } = extra;
  if (typeof retryAfterMs === 'number') return retryAfterMs;
  return entry.retry && entry.http === 503 ? 1000 : null;
}
