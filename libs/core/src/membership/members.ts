/**
 * Who belongs to the cluster. Each node has rows of all numbers that were ever given out (pgquorum.member); a process has a list of addresses in its
 * settings. Together they say which nodes there are: the lists are only addresses, what the nodes say decides.
 *
 * Invariant: a number that is retired anywhere is retired: numbers never come back to life, so nodes that have not heard of it yet change nothing. Pure.
 */
import type { NodeAddress } from '../config/settings.ts';
import type { NodeNumber } from '../versioning/version.ts';

export type MemberChange = 'leaving' | 'lost';

export interface MemberRow {
  readonly number: number;
  readonly name: string;
  readonly zone: string;
  readonly spare: boolean;
  readonly retired: boolean;
  /** Of nodes that were added while the cluster ran; holds a password. */
  readonly url: string | null;
  readonly weight: number;
  readonly change: MemberChange | null;
}

/** What several nodes say, as one. */
export function joinMembers(views: readonly (readonly MemberRow[])[]): MemberRow[] {
  const joined = new Map<number, MemberRow>();
  for (const row of views.flat()) {
    const before = joined.get(row.number);
    joined.set(
      row.number,
      before === undefined
        ? row
        : {
            ...before,
            retired: before.retired || row.retired,
            // A spare number that is in use is so for good.
            spare: before.spare && row.spare,
            url: before.url ?? row.url,
            change: worse(before.change, row.change),
          },
    );
  }
  return [...joined.values()].sort((a, b) => a.number - b.number);
}

const worse = (a: MemberChange | null, b: MemberChange | null): MemberChange | null =>
  a === 'lost' || b === 'lost' ? 'lost' : (a ?? b);

/** Were all of its numbers retired? A name that nobody knows was not. */
export function isRemoved(name: string, members: readonly MemberRow[]): boolean {
  const own = members.filter((member) => member.name === name);
  return own.length > 0 && own.every(({ retired }) => retired);
}

/** The number that a node has now, as far as the others know. */
export function numberOf(
  name: string,
  members: readonly MemberRow[],
): { readonly number: NodeNumber; readonly spare: NodeNumber | null } | null {
  const own = members.filter((member) => member.name === name && !member.retired);
  const number = own.filter(({ spare }) => !spare).at(-1)?.number;
  if (number === undefined) return null;
  const spare = own.find((member) => member.spare && member.number !== number)?.number ?? null;
  return { number: number as NodeNumber, spare: spare as NodeNumber | null };
}

export interface ResolvedNodes {
  readonly nodes: readonly NodeAddress[];
  /** Listed, and no members any more. */
  readonly removed: readonly NodeAddress[];
}

/** `listed` without those that were removed, but for the one that is being added, and with those that were added while the cluster ran. */
export function resolveNodes(
  listed: readonly NodeAddress[],
  members: readonly MemberRow[],
  adding?: string,
): ResolvedNodes {
  const removed = listed.filter(({ name }) => name !== adding && isRemoved(name, members));
  const known = new Set(listed.map(({ name }) => name));
  const added = members.flatMap(({ name, zone, url, weight, spare, retired }): NodeAddress[] =>
    spare || retired || url === null || known.has(name) ? [] : [{ name, zone, url, weight }],
  );
  return { nodes: [...listed.filter((node) => !removed.includes(node)), ...added], removed };
}

export const sameNames = (a: readonly { name: string }[], b: readonly { name: string }[]): boolean =>
  a.length === b.length && a.every(({ name }) => b.some((other) => other.name === name));
