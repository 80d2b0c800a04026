/**
 * Who may call. With API keys every call but health needs one. Without keys only loopback is bound, and only pages of the gateway itself may call from a
 * browser: otherwise any web page could, through the user's browser.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';

const digest = (text: string): Buffer => createHash('sha256').update(text, 'utf8').digest();

/** The page itself holds no data; its calls do and need the key. */
const openPaths: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/']);

export interface IncomingHttp {
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export const isLoopbackHost = (host: string): boolean => {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (bare === 'localhost' || bare === '::1' || bare.endsWith('.localhost')) return true;
  return isIP(bare) === 4 && bare.startsWith('127.');
};

/** Refuses to listen to the world without keys. */
export function checkBinding(settings: Pick<Settings, 'host' | 'apiKeys'>): void {
  if (settings.apiKeys === undefined && !isLoopbackHost(settings.host)) {
    throw new PgquorumError(
      'settings_invalid',
      `PGQUORUM_HOST: ${settings.host} is no loopback address, and without PGQUORUM_API_KEYS only those are bound`,
    );
  }
}

export class Guard {
  readonly #keys: readonly Buffer[] | null;

  constructor(settings: Pick<Settings, 'apiKeys'>) {
    this.#keys = settings.apiKeys === undefined ? null : settings.apiKeys.map(digest);
  }

  /** The principal of an HTTP request. */
  checkHttp(request: IncomingHttp): string {
    const path = request.url.split('?', 1)[0]!;
    if (this.#keys === null) {
      checkOwnPage(request.headers);
      return 'anonymous';
    }
    if (openPaths.has(path)) return 'anonymous';
    return this.checkKey(keyOf(request.headers['authorization'], request.headers['x-api-key']));
  }

  /** The principal behind a key: its digest. All keys are compared, so that the time tells nothing. */
  checkKey(key: string | null): string {
    if (this.#keys === null) return 'anonymous';
    if (key === null) throw new PgquorumError('unauthenticated', 'no API key was sent');
    const given = digest(key);
    let found = false;
    for (const known of this.#keys) if (timingSafeEqual(known, given)) found = true;
    if (!found) throw new PgquorumError('unauthenticated', 'the API key is not known');
    return given.toString('hex');
  }
}

export function keyOf(authorization: unknown, apiKey: unknown): string | null {
  if (typeof apiKey === 'string' && apiKey !== '') return apiKey;
  if (typeof authorization !== 'string') return null;
  return /^Bearer +(\S+) *$/i.exec(authorization)?.[1] ?? null;
}

function checkOwnPage(headers: IncomingHttp['headers']): void {
  const { host, origin } = headers;
  const refuse = (detail: string) => new PgquorumError('host_not_allowed', detail);
  if (typeof host === 'string' && !isLoopbackHost(host.replace(/:\d+$/, '')))
    throw refuse('without API keys only requests to a loopback host are answered');
  if (typeof origin === 'string' && (!URL.canParse(origin) || new URL(origin).host !== host))
    throw refuse('the request comes from a page of another origin');
}
