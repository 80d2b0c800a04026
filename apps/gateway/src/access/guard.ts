/**
 * Who may call, and what. With keys or tokens every call but health needs one, and the capability that the table of operations names. Without any only
 * loopback is bound, everyone there may do everything, and only pages of the gateway itself may call from a browser: otherwise any web page could,
 * through the user's browser.
 */
import { isIP } from 'node:net';
import { timingSafeEqual } from 'node:crypto';
import { digestOf, parseApiKey, type ApiKey } from '#core/access/api-key.ts';
import { Rights } from '#core/access/rights.ts';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Identity } from './identity.ts';
import type { Operation } from './operation-table.ts';
import { looksLikeToken, takesTokens, Tokens, type TokenSettings } from './tokens.files.ts';

/** What a request shows of its caller. */
export interface Credentials {
  readonly authorization: unknown;
  readonly apiKey: unknown;
}

/** A call that asks for leave: its operation, and the fields in which a collection may be named. */
export interface Asked {
  readonly operation: Operation;
  readonly path: Readonly<Record<string, unknown>>;
  readonly query: Readonly<Record<string, unknown>>;
}

export interface GuardOptions {
  /** Throws `conflict_not_found`. */
  readonly collectionOfConflict: (id: string) => Promise<string>;
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

const everyone: Identity = { principal: 'anonymous', rights: Rights.all };
/** Who shows nothing, where that is enough. */
const nobody: Identity = { principal: 'anonymous', rights: Rights.none };

export const isLoopbackHost = (host: string): boolean => {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (bare === 'localhost' || bare === '::1' || bare.endsWith('.localhost')) return true;
  return isIP(bare) === 4 && bare.startsWith('127.');
};

export type GuardSettings = TokenSettings & Pick<Settings, 'apiKeys'>;

const asksWho = (settings: GuardSettings): boolean => settings.apiKeys !== undefined || takesTokens(settings);

/** Refuses to listen to the world where everyone may do everything. */
export function checkBinding(settings: GuardSettings & Pick<Settings, 'host'>): void {
  if (!asksWho(settings) && !isLoopbackHost(settings.host)) {
    throw new PgquorumError(
      'settings_invalid',
      `PGQUORUM_HOST: ${settings.host} is no loopback address, and without PGQUORUM_API_KEYS or tokens only those are bound`,
    );
  }
}

export class Guard {
  readonly #asks: boolean;
  readonly #keys: readonly ApiKey[];
  readonly #tokens: Tokens | null;
  readonly #options: GuardOptions;

  constructor(settings: GuardSettings, options: GuardOptions) {
    this.#asks = asksWho(settings);
    this.#keys = (settings.apiKeys ?? []).map(parseApiKey);
    this.#tokens = takesTokens(settings) ? new Tokens(settings) : null;
    this.#options = options;
  }

  /** Who calls over HTTP. `operation` undefined: there is no such route, of which only those who are known hear. */
  async identifyHttp(headers: Headers, operation: Operation | undefined): Promise<Identity> {
    if (!this.#asks) checkOwnPage(headers);
    const credentials = { authorization: headers['authorization'], apiKey: headers['x-api-key'] };
    if (operation?.callers !== 'all') return this.identify(credentials);
    // Health is told to everyone, and names of nodes to those who may see them.
    return this.identify(credentials).catch(() => nobody);
  }

  async identify({ authorization, apiKey }: Credentials): Promise<Identity> {
    if (!this.#asks) return everyone;
    const named = typeof apiKey === 'string' && apiKey !== '' ? apiKey : null;
    const given = named ?? bearerOf(authorization);
    if (given === null) throw new PgquorumError('unauthenticated', 'no API key or token was sent');
    const found = findKey(this.#keys, given);
    if (found !== undefined) return found;
    if (this.#tokens !== null && named === null && looksLikeToken(given)) return this.#tokens.identify(given);
    throw new PgquorumError('unauthenticated', 'the API key is not known');
  }

  /** Throws `permission_denied`. */
  async check({ rights }: Identity, { operation, path, query }: Asked): Promise<void> {
    if (operation.topology === true && !rights.has('topology:read')) throw denied(['topology:read'], null);
    const { callers, needs, on, anywhere } = operation;
    if (callers !== 'needs' || rights.hasAny(needs)) return;
    if (anywhere === true && rights.hasAnywhere(needs)) return;
    if (on?.in === 'conflict') return this.#checkConflict(rights, needs, path['id']);
    const name = on === undefined ? undefined : (on.in === 'path' ? path : query)[on.field];
    const collection = typeof name === 'string' && name !== '' ? name : null;
    if (!rights.hasAny(needs, collection)) throw denied(needs, collection);
  }

  /** Of records of collections that the caller has nothing to do with it is not told whether they are there. */
  async #checkConflict(rights: Rights, needs: Operation['needs'], id: unknown): Promise<void> {
    const text = typeof id === 'string' ? id.toLowerCase() : '';
    const collection = await this.#options.collectionOfConflict(text);
    if (!rights.knows(collection)) throw new PgquorumError('conflict_not_found', `conflict ${text}`);
    if (!rights.hasAny(needs, collection)) throw denied(needs, collection);
  }
}

const denied = (needs: readonly string[], collection: string | null): PgquorumError =>
  new PgquorumError(
    'permission_denied',
    `needs ${needs.join(' or ')}${collection === null ? '' : ` on ${collection.slice(0, 48)}`}`,
  );

/** All keys are compared, so that the time tells nothing. */
function findKey(keys: readonly ApiKey[], given: string): Identity | undefined {
  const digest = digestOf(given);
  let found: ApiKey | undefined;
  for (const key of keys) if (timingSafeEqual(key.digest, digest)) found = key;
  return found;
}

const bearerOf = (authorization: unknown): string | null =>
  typeof authorization === 'string' ? (/^Bearer +(\S+) *$/i.exec(authorization)?.[1] ?? null) : null;

function checkOwnPage(headers: Headers): void {
  const { host, origin } = headers;
  const refuse = (detail: string) => new PgquorumError('host_not_allowed', detail);
  if (typeof host === 'string' && !isLoopbackHost(host.replace(/:\d+$/, '')))
    throw refuse('without API keys only requests to a loopback host are answered');
  if (typeof origin === 'string' && (!URL.canParse(origin) || new URL(origin).host !== host))
    throw refuse('the request comes from a page of another origin');
}
