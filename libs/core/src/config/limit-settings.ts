/** How much the gateway takes on at once; a part of the table in settings.ts. */
import { integer, setting } from './setting.ts';

export const limitSettings = {
  rateLimitPerS: setting(
    'PGQUORUM_RATE_LIMIT_PER_S',
    integer(1, 1_000_000),
    undefined,
    'Requests that each caller may send to a gateway in a second; unset = no limit. What is above is answered rate_limited.',
    { unit: 'requests' },
  ),
  rateLimitBurst: setting(
    'PGQUORUM_RATE_LIMIT_BURST',
    integer(1, 1_000_000),
    undefined,
    'Requests that a caller who was quiet may send at once; unset = those of a second.',
    { unit: 'requests' },
  ),
  requestsMax: setting(
    'PGQUORUM_REQUESTS_MAX',
    integer(1, 100_000),
    256,
    'Requests that a gateway works on at once; streams have a bound of their own.',
    { unit: 'requests' },
  ),
  requestsWaitingMax: setting(
    'PGQUORUM_REQUESTS_WAITING_MAX',
    integer(0, 1_000_000),
    1024,
    'Requests that wait for their turn beside those; what is above is answered overloaded.',
    { unit: 'requests' },
  ),
  requestsWaitMs: setting(
    'PGQUORUM_REQUESTS_WAIT_MS',
    integer(0, 60_000),
    5000,
    'The longest that a request waits for its turn; then it is answered overloaded.',
    { unit: 'ms' },
  ),
} as const;

/** Those of them that may be left out. */
export type UnsetLimitKey = 'rateLimitPerS' | 'rateLimitBurst';
