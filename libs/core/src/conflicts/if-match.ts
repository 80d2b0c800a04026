/** Compare-and-set by a version's text, `<origin>.<counter>`, as it comes in If-Match. Pure. */
import { PgquorumError } from '../errors/error.ts';
import { versionText, type VersionColumns } from '../versioning/version-view.ts';

export function parseIfMatch(text: string | null): string | null {
  if (text === null) return null;
  const bare = text.replace(/^W\//, '').replaceAll('"', '');
  if (!/^\d{1,5}\.\d{1,19}$/.test(bare))
    throw new PgquorumError('invalid_request', 'If-Match: must be a version, <origin>.<counter>');
  return bare;
}

export function checkIfMatch(ifMatch: string | null, current: VersionColumns | null): void {
  if (ifMatch === null) return;
  const now = current === null ? null : versionText(current.origin, current.counter);
  if (now !== ifMatch)
    throw new PgquorumError(
      'version_mismatch',
      now === null ? 'the key has no version' : `the version is ${now}`,
    );
}
