/**
 * What a whole state that was re-read for a write has to tell of the write's gateway request. Pure; the simulation runs it too.
 *
 * The write may have been overwritten since, and its request with it: then nothing in the state says that a write of another master under the same
 * request is the same write, and that one would stay an open conflict wherever only the state arrives. Every write that is published tells of
 * its own request, so the one in hand is enough; requests of other writes come with their own places in the log.
 */
import type { RememberedRequest } from '../versioning/merge.ts';
import { sameDot, type Version } from '../versioning/version.ts';

export function overwrittenRequest(
  written: Version,
  { winner, losers }: { readonly winner: Version; readonly losers: readonly Version[] },
): RememberedRequest[] {
  const { request, dot, hlc, clock } = written;
  if (request === null || [winner, ...losers].some((one) => sameDot(one.dot, dot))) return [];
  return [{ request, dot, hlc, ...(winner.crdt === null ? {} : { clock }) }];
}
