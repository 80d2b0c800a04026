/**
 * An entry of PGQUORUM_API_KEYS: `name=sha256:<64 hex digits>[:<grants>]`, which holds no secret, or a key as it is. Only digests are kept and
 * compared. A digest of a long random text needs no salt and no slow hash: there is nothing to guess. Pure.
 */
import { createHash } from 'node:crypto';
import { GrantMistake, parseGrants, Rights } from './rights.ts';

export interface ApiKey {
  /** `key:<name>`, or `key:sha256:<beginning of the digest>` of one without a name. Shown in logs, and what idempotency keys belong to. */
  readonly principal: string;
  readonly digest: Buffer;
  readonly rights: Rights;
}

export const digestOf = (key: string): Buffer => createHash('sha256').update(key, 'utf8').digest();

const hashed = /^([a-z][a-z0-9_-]{0,31})=sha256:([0-9a-f]{64})(?::(.*))?$/;
const shownHexDigits = 16;

/** Throws a GrantMistake. */
export function parseApiKey(entry: string): ApiKey {
  if (!/^[^=]*=sha256:/.test(entry)) {
    const digest = digestOf(entry);
    return {
      principal: `key:sha256:${digest.toString('hex').slice(0, shownHexDigits)}`,
      digest,
      rights: Rights.all,
    };
  }
  const [, name, hex, grants] = hashed.exec(entry) ?? [];
  if (name === undefined || hex === undefined)
    throw new GrantMistake('a hashed key is name=sha256:<64 lower-case hex digits>[:<grants>]');
  return {
    principal: `key:${name}`,
    digest: Buffer.from(hex, 'hex'),
    rights: grants === undefined ? Rights.all : new Rights(parseGrants(grants)),
  };
}

/** What is wrong with a list of entries; null = nothing. Never has a part of an entry in it. */
export function keysMistake(entries: readonly string[]): string | null {
  const principals = new Set<string>();
  const digests = new Set<string>();
  for (const [at, entry] of entries.entries()) {
    try {
      const { principal, digest } = parseApiKey(entry);
      if (principals.has(principal) || digests.has(digest.toString('hex')))
        return `entry ${at + 1}: the name or the key was in the list before`;
      principals.add(principal);
      digests.add(digest.toString('hex'));
    } catch (cause) {
      if (cause instanceof GrantMistake) return `entry ${at + 1}: ${cause.message}`;
      throw cause;
    }
  }
  return null;
}
