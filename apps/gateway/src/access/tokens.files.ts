/**
 * Tokens (JWT). Which key a token is checked with follows from the settings and the algorithm in its head together: HS256 with the secret only, RS256
 * and ES256 with public keys only, so that no public key is ever taken for a secret. Nothing else is taken, "none" least of all.
 */
import { createPublicKey, createSecretKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import {
  createRemoteJWKSet,
  decodeProtectedHeader,
  errors,
  jwtVerify,
  type CryptoKey,
  type JWTHeaderParameters,
  type JWTPayload,
  type FlattenedJWSInput,
} from 'jose';
import { rightsOfClaim } from '#core/access/claims.ts';
import { GrantMistake } from '#core/access/rights.ts';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Identity } from './identity.ts';

export type TokenSettings = Pick<
  Settings,
  'jwtSecret' | 'jwtPublicKeyFile' | 'jwtJwksUrl' | 'jwtIssuer' | 'jwtAudience' | 'jwtClaim'
>;

const clockToleranceS = 30;
const subjectCharactersMax = 200;
/** Keys are held for ten minutes; a key that is not known is asked for at once, but no more often than this. */
const keySetCooldownMs = 30_000;
const keySetTimeoutMs = 5_000;
const keySetAgeMaxMs = 600_000;

type FindKey = (header: JWTHeaderParameters, token: FlattenedJWSInput) => Promise<KeyObject | CryptoKey>;

export const takesTokens = ({ jwtSecret, jwtPublicKeyFile, jwtJwksUrl }: TokenSettings): boolean =>
  jwtSecret !== undefined || jwtPublicKeyFile !== undefined || jwtJwksUrl !== undefined;

/** Whether it may be one at all. */
export const looksLikeToken = (text: string): boolean => /^[\w-]+\.[\w-]+\.[\w-]*$/.test(text);

export class Tokens {
  readonly #settings: TokenSettings;
  readonly #keys: ReadonlyMap<string, FindKey>;

  /** Throws `settings_invalid`. */
  constructor(settings: TokenSettings) {
    this.#settings = settings;
    this.#keys = findersOf(settings);
  }

  /** Throws `unauthenticated` or `identity_unavailable`. */
  async identify(token: string): Promise<Identity> {
    const { jwtClaim } = this.#settings;
    const payload = await this.#verify(token);
    const { sub, exp } = payload;
    if (sub === undefined || sub === '' || sub.length > subjectCharactersMax)
      throw refused(`the claim sub of the token must have 1 to ${subjectCharactersMax} characters`);
    try {
      return {
        principal: `jwt:${sub}`,
        rights: rightsOfClaim(payload[jwtClaim]),
        expiresAtMs: (exp! + clockToleranceS) * 1000,
      };
    } catch (cause) {
      if (cause instanceof GrantMistake)
        throw refused(`the claim ${jwtClaim} of the token: ${cause.message}`);
      throw cause;
    }
  }

  async #verify(token: string): Promise<JWTPayload> {
    const { jwtIssuer: issuer, jwtAudience: audience } = this.#settings;
    try {
      const { alg = 'none' } = decodeProtectedHeader(token);
      const find = this.#keys.get(alg);
      if (find === undefined) throw refused('tokens of this algorithm are not taken');
      const { payload } = await jwtVerify(token, find, {
        algorithms: [alg],
        clockTolerance: clockToleranceS,
        requiredClaims: ['exp', 'sub'],
        ...(issuer === undefined ? {} : { issuer }),
        ...(audience === undefined ? {} : { audience }),
      });
      return payload;
    } catch (cause) {
      if (cause instanceof PgquorumError) throw cause;
      throw refused(reasonOf(cause), cause);
    }
  }
}

function findersOf({ jwtSecret, jwtPublicKeyFile, jwtJwksUrl, jwtAudience }: TokenSettings) {
  const finders = new Map<string, FindKey>();
  if (jwtSecret !== undefined) {
    const key = createSecretKey(jwtSecret, 'utf8');
    finders.set('HS256', () => Promise.resolve(key));
  }
  if (jwtPublicKeyFile === undefined && jwtJwksUrl === undefined) return finders;
  if (jwtAudience === undefined)
    throw invalid('PGQUORUM_JWT_AUDIENCE: is needed, or tokens that were made for others would be taken');
  if (jwtPublicKeyFile !== undefined && jwtJwksUrl !== undefined)
    throw invalid('PGQUORUM_JWT_PUBLIC_KEY_FILE and PGQUORUM_JWT_JWKS_URL: only one of them is taken');
  if (jwtPublicKeyFile !== undefined) {
    const { algorithm, key } = readPublicKey(jwtPublicKeyFile);
    finders.set(algorithm, () => Promise.resolve(key));
  }
  if (jwtJwksUrl !== undefined) {
    const find = remoteKeys(jwtJwksUrl);
    for (const algorithm of ['RS256', 'ES256']) finders.set(algorithm, find);
  }
  return finders;
}

function readPublicKey(file: string): { algorithm: string; key: KeyObject } {
  try {
    const key = createPublicKey(readFileSync(file));
    const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
    if (key.asymmetricKeyType === 'rsa' && modulusLength >= 2048) return { algorithm: 'RS256', key };
    if (key.asymmetricKeyType === 'ec' && namedCurve === 'prime256v1') return { algorithm: 'ES256', key };
  } catch (cause) {
    throw new PgquorumError(
      'settings_invalid',
      'PGQUORUM_JWT_PUBLIC_KEY_FILE: has no PEM file of a public key',
      { cause },
    );
  }
  throw invalid(
    'PGQUORUM_JWT_PUBLIC_KEY_FILE: is neither an RSA key of 2048 bits or more nor on the curve P-256',
  );
}

function remoteKeys(url: string): FindKey {
  const find = createRemoteJWKSet(new URL(url), {
    timeoutDuration: keySetTimeoutMs,
    cooldownDuration: keySetCooldownMs,
    cacheMaxAge: keySetAgeMaxMs,
  });
  return async (header, token) => {
    try {
      return await find(header, token);
    } catch (cause) {
      if (
        cause instanceof errors.JWKSNoMatchingKey ||
        cause instanceof errors.JWKSMultipleMatchingKeys ||
        cause instanceof errors.JOSENotSupported
      )
        throw cause;
      throw new PgquorumError('identity_unavailable', 'the key set of PGQUORUM_JWT_JWKS_URL can not be had', {
        cause,
      });
    }
  };
}

const invalid = (detail: string): PgquorumError => new PgquorumError('settings_invalid', detail);
const refused = (detail: string, cause?: unknown): PgquorumError =>
  new PgquorumError('unauthenticated', detail, { cause });

/** The token itself is never repeated. */
function reasonOf(cause: unknown): string {
  if (cause instanceof errors.JWTExpired) return 'the token has expired';
  if (cause instanceof errors.JWTClaimValidationFailed)
    return `the claim ${cause.claim} of the token ${cause.reason === 'missing' ? 'is missing' : 'does not fit'}`;
  return 'the token can not be verified';
}
