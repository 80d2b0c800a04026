/** The id of a conflict record: derived from what it is about, so that every node gives the same record the same id. Pure. */
import { createHash } from 'node:crypto';
import { dotText, type Dot } from './version.ts';

export function conflictId(collection: string, key: string, loser: Dot): string {
  const hex = createHash('sha256')
    .update(`${collection}\0${key}\0${dotText(loser)}`, 'utf8')
    .digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}
