/** Who may call the gateway; a part of the table in settings.ts. */
import { z } from 'zod';
import { keysMistake } from '../access/api-key.ts';
import { commaList, setting, text } from './setting.ts';

/** As long as what HMAC with SHA-256 makes of it: a shorter one is easier to guess than the signature. */
const secretCharactersMin = 32;

const loopback = /^http:\/\/(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?(\/|$)/;
const keySetUrl = z
  .string()
  .refine((url) => URL.canParse(url) && (url.startsWith('https://') || loopback.test(url)), {
    message: 'must begin with https://, or http:// and a loopback address',
  })
  .refine((url) => !URL.canParse(url) || new URL(url).username === '', {
    message: 'must have no user and password in it',
  });

export const accessSettings = {
  apiKeys: setting(
    'PGQUORUM_API_KEYS',
    commaList.superRefine((entries, context) => {
      const mistake = keysMistake(entries);
      if (mistake !== null) context.addIssue({ code: 'custom', message: mistake });
    }),
    undefined,
    'Comma list of API keys, each as it is or as `name=sha256:<digest>[:<grants>]` (docs/security.md); set = every call but health needs one.',
    { secret: true },
  ),
  jwtSecret: setting(
    'PGQUORUM_JWT_SECRET',
    z.string().min(secretCharactersMin),
    undefined,
    'Secret of tokens signed with HS256, of at least 32 characters; set = tokens are taken beside API keys.',
    { secret: true },
  ),
  jwtPublicKeyFile: setting(
    'PGQUORUM_JWT_PUBLIC_KEY_FILE',
    text(),
    undefined,
    'PEM file of the public key of tokens: an RSA key for RS256, a key on the curve P-256 for ES256. Needs PGQUORUM_JWT_AUDIENCE.',
  ),
  jwtJwksUrl: setting(
    'PGQUORUM_JWT_JWKS_URL',
    keySetUrl,
    undefined,
    'Where the set of public keys (JWKS) of tokens signed with RS256 or ES256 is fetched. Needs PGQUORUM_JWT_AUDIENCE.',
  ),
  jwtIssuer: setting(
    'PGQUORUM_JWT_ISSUER',
    text(),
    undefined,
    'What the claim `iss` of a token has to be; unset = anything.',
  ),
  jwtAudience: setting(
    'PGQUORUM_JWT_AUDIENCE',
    text(),
    undefined,
    'What the claim `aud` of a token has to be, or to list; unset = anything.',
  ),
  jwtClaim: setting(
    'PGQUORUM_JWT_CLAIM',
    text(),
    'pgquorum',
    'The claim that says what the bearer of a token may do (docs/security.md).',
  ),
  tlsCertFile: setting(
    'PGQUORUM_TLS_CERT_FILE',
    text(),
    undefined,
    'PEM file of the certificate of the gateway, with those between it and its authority; set = HTTP and gRPC speak TLS only.',
  ),
  tlsKeyFile: setting(
    'PGQUORUM_TLS_KEY_FILE',
    text(),
    undefined,
    'PEM file of the private key of that certificate.',
  ),
  tlsClientCaFile: setting(
    'PGQUORUM_TLS_CLIENT_CA_FILE',
    text(),
    undefined,
    'PEM file of the authorities of clients; set = every call but health needs a certificate of theirs, beside a key or token.',
  ),
} as const;

/** Those of them that may be left out. */
export type UnsetAccessKey = Exclude<keyof typeof accessSettings, 'jwtClaim'>;
