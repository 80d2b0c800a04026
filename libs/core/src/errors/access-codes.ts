/** The codes of callers that may not, or may not so often: a part of the one table in codes.ts. */
import { entry } from './code-entry.ts';

export const accessCodes = {
  host_not_allowed: entry(
    403,
    'PERMISSION_DENIED',
    false,
    'The request comes from a foreign page or host name',
    'Without API keys only requests addressed to the loopback host, and from its own pages, are answered.',
  ),
  unauthenticated: entry(
    401,
    'UNAUTHENTICATED',
    false,
    'An API key or a token is needed',
    'Send a key of PGQUORUM_API_KEYS or a valid token as "authorization: Bearer …"; a key also as "x-api-key".',
  ),
  permission_denied: entry(
    403,
    'PERMISSION_DENIED',
    false,
    'The caller lacks a capability',
    'The detail says which one. Capabilities are given with the key; see docs/security.md.',
  ),
  rate_limited: entry(
    429,
    'RESOURCE_EXHAUSTED',
    true,
    'The caller sends too many requests',
    'Try again after the time in Retry-After (RetryInfo with gRPC), or ask for a higher PGQUORUM_RATE_LIMIT_PER_S.',
  ),
  identity_unavailable: entry(
    503,
    'UNAVAILABLE',
    true,
    'The keys of tokens cannot be had',
    'The key set at PGQUORUM_JWT_JWKS_URL cannot be read: look whether the address is right and answers. API keys go on to work.',
  ),
} as const;
