/**
 * When an increment of a request may be folded into a cell: once no master can carry the request out any more without knowing of it. Pure.
 *
 * A master is looked at: the clock of what it had seen of the key, committed, at one moment. A request whose dots are `at` is stable on node me when
 * for every other member p, by some look at p,
 *   1. p had seen all of `at`. Operations and apply both lock the key's row and version, so whatever p commits to the key after the look
 *      was made with the request in sight, and refuses it;
 *   2. me has seen all that p had seen of p's own dots. So what p committed before the look, among it perhaps this very request, is in the state that
 *      me folds, and in `at`.
 * Of third nodes' dots 2. asks nothing if those nodes were looked at themselves: a look at them vouches for them. Others (numbers of nodes that
 * are gone, or that have taken their spare one) have to be covered too.
 *
 * This is asked of the clocks of the key alone, under its lock, and never of times, positions or progress: a lane's progress passes what it has parked
 * or put away as a dead letter, commit times are not in commit order, and wall clocks step back. None of that makes a dot seen.
 *
 * It would break if a member forgot what it had seen: restored from a backup, or failed over to a standby that was behind, it could take a request once
 * more that others have folded meanwhile. So looks end with the connection they were taken on, and a member forgets its number with its past. Until
 * such a node has caught up with its own past it must not be given repeats of requests from before; no look of ours can help with that.
 */
import { covers, type Clock } from '../versioning/clock.ts';
import type { Dots } from '../versioning/crdt/dots.ts';
import { lowestOrigin } from '../versioning/crdt/fold.ts';
import { livesOf, type CrdtState } from '../versioning/crdt/state.ts';
import type { NodeNumber } from '../versioning/version.ts';

/** Member -> what it had seen of the key when it was looked at. */
export type Looks = ReadonlyMap<NodeNumber, Clock>;

/** 2. of the above. A look that is heard has told all it can: what it does not cover needs a later one. */
export function isHeard(mine: Clock, looks: Looks): boolean {
  for (const [member, seen] of looks) {
    for (const node in seen) {
      const origin = Number(node) as NodeNumber;
      if (origin !== member && looks.has(origin)) continue;
      if (!covers(mine, { origin, counter: seen[node]! })) return false;
    }
  }
  return true;
}

/** 1. of the above. */
export function isSeenByAll(at: Dots, looks: Looks): boolean {
  for (const seen of looks.values())
    for (const origin in at)
      if (!covers(seen, { origin: Number(origin) as NodeNumber, counter: at[origin]! })) return false;
  return true;
}

/** What a key holds that `me` may have to fold, now or once other masters have told more: a request that is in two lives waits for one of them to go. */
export function hasUnfolded(state: CrdtState, me: NodeNumber): boolean {
  return Object.values(livesOf(state)).some(({ k }) =>
    Object.values(k ?? {}).some(({ at }) => lowestOrigin(at) === me),
  );
}
