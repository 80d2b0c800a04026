/** Who calls, and for how long that is known. */
import type { Rights } from '#core/access/rights.ts';

export interface Identity {
  /** `key:…`, `jwt:<subject>` or `anonymous`. Shown in logs, and what idempotency keys belong to. */
  readonly principal: string;
  readonly rights: Rights;
  /** When the caller's token ends; undefined for a key. */
  readonly expiresAtMs?: number;
}

/** The longest that a timer can be set to. */
const timerMaxMs = 2 ** 31 - 1;

/** For streams, which outlive the moment at which the caller was asked who it is. */
export function whileKnown({ expiresAtMs }: Identity, signal: AbortSignal): AbortSignal {
  if (expiresAtMs === undefined) return signal;
  const leftMs = Math.min(timerMaxMs, Math.max(0, expiresAtMs - Date.now()));
  return AbortSignal.any([signal, AbortSignal.timeout(leftMs)]);
}

export const isOver = ({ expiresAtMs }: Identity): boolean =>
  expiresAtMs !== undefined && Date.now() >= expiresAtMs;
