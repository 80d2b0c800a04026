/** The certificates of the gateway, for both transports. Read once, at the start. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { createSecureContext, TLSSocket } from 'node:tls';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';

export interface Certificates {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Of clients; null = clients need no certificate. */
  readonly clientCa: Buffer | null;
}

export type TlsSettings = Pick<Settings, 'tlsCertFile' | 'tlsKeyFile' | 'tlsClientCaFile'>;

/** Null without TLS. Throws `settings_invalid`, which never shows what is in a file. */
export function readCertificates({
  tlsCertFile,
  tlsKeyFile,
  tlsClientCaFile,
}: TlsSettings): Certificates | null {
  if (tlsCertFile === undefined && tlsKeyFile === undefined) {
    if (tlsClientCaFile === undefined) return null;
    throw invalid('PGQUORUM_TLS_CLIENT_CA_FILE: needs PGQUORUM_TLS_CERT_FILE and PGQUORUM_TLS_KEY_FILE');
  }
  if (tlsCertFile === undefined || tlsKeyFile === undefined)
    throw invalid('PGQUORUM_TLS_CERT_FILE and PGQUORUM_TLS_KEY_FILE: one needs the other');
  const cert = read('PGQUORUM_TLS_CERT_FILE', tlsCertFile);
  const key = read('PGQUORUM_TLS_KEY_FILE', tlsKeyFile);
  const clientCa =
    tlsClientCaFile === undefined ? null : read('PGQUORUM_TLS_CLIENT_CA_FILE', tlsClientCaFile);
  try {
    createSecureContext({ cert, key });
  } catch (cause) {
    throw invalid('PGQUORUM_TLS_CERT_FILE and PGQUORUM_TLS_KEY_FILE: are no certificate and its key', cause);
  }
  // An empty list of authorities would stand for those that Node.js knows, which sign certificates for anybody.
  if (clientCa !== null) checkCertificate('PGQUORUM_TLS_CLIENT_CA_FILE', clientCa);
  return { cert, key, clientCa };
}

function read(name: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw invalid(`${name}: the file can not be read`, cause);
  }
}

function checkCertificate(name: string, pem: Buffer): void {
  try {
    new X509Certificate(pem);
  } catch (cause) {
    throw invalid(`${name}: has no certificate`, cause);
  }
}

const invalid = (detail: string, cause?: unknown): PgquorumError =>
  new PgquorumError('settings_invalid', detail, { cause });

/** What Fastify makes its server with. Who shows no certificate is let in as far as health, and told what is missing elsewhere. */
export const httpsOptions = ({ cert, key, clientCa }: Certificates): object => ({
  cert,
  key,
  minVersion: 'TLSv1.2',
  ...(clientCa === null ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: false }),
});

/** A certificate was shown and is of one of the authorities: both are asked, so that a resumed session without one is not taken for an authorised one. */
export const showsCertificate = (socket: Socket): boolean =>
  socket instanceof TLSSocket && socket.authorized && socket.getPeerCertificate().raw !== undefined;
