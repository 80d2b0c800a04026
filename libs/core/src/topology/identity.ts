/**
 * Whether a database is the one that the other nodes remember. Pure.
 *
 * Invariant: no dot is given to two writes. Counters only grow within one history of a database; one that was restored from a backup, cloned or promoted from
 * a standby that was behind has lost the end of its history, and would draw counters again that others hold writes under. So it goes on under
 * another number. What a server wrote since its start leaves it only after this has been asked of those who can be reached.
 *
 * What gives it away: a token that somebody remembers and it lacks; a WAL that was shorter, when the first unconfirmed write was made, than others have read
 * it; another timeline; its number being another database's past. It would go unnoticed if it had lost only what nobody who answers has heard of:
 * that is why the tokens come often, and why somebody has to answer.
 */

export interface LocalIdentity {
  readonly number: number;
  /** Found to be the one that is remembered since the server was started. */
  readonly confirmed: boolean;
  readonly timeline: string;
  readonly timelineNow: string;
  /** Where unconfirmed writes began; the end of the WAL when there are none. */
  readonly sinceLsn: bigint;
  /** Those of the remembered tokens that are its own. */
  readonly tokens: ReadonlySet<string>;
}

/** What one of the other nodes knows of it. */
export interface Memory {
  readonly peer: string;
  /** Null when it has not heard of it yet. */
  readonly remembered: {
    readonly number: number;
    readonly token: string;
    readonly lsn: bigint;
    readonly agoMs: number;
  } | null;
  /** Up to where it has read the WAL. */
  readonly readLsn: bigint | null;
  readonly retired: boolean;
}

export type Verdict =
  | { readonly kind: 'same' }
  /** Nobody who could tell can be asked. */
  | { readonly kind: 'unknown' }
  /** Another database has told others just now that it is this node. */
  | { readonly kind: 'other-alive'; readonly reason: string }
  | { readonly kind: 'changed'; readonly reason: string };

export function judge(
  local: LocalIdentity,
  memories: readonly Memory[],
  options: { readonly peers: number; readonly aliveMs: number },
): Verdict {
  const alive = memories.some(
    ({ remembered }) =>
      remembered !== null && !local.tokens.has(remembered.token) && remembered.agoMs < options.aliveMs,
  );
  // Without who was told: that is another one at every look, and each new reason is written down and logged.
  if (alive)
    return {
      kind: 'other-alive',
      reason: `another database has told others within the last ${options.aliveMs} ms that it is this node`,
    };
  if (memories.length === 0 && options.peers > 0) return { kind: 'unknown' };
  for (const memory of memories) {
    const reason = lacking(local, memory);
    if (reason !== null) return { kind: 'changed', reason };
  }
  return !local.confirmed && local.timeline !== local.timelineNow
    ? {
        kind: 'changed',
        reason: `its timeline is ${local.timelineNow} and was ${local.timeline}: it was promoted, or recovered to a point in time`,
      }
    : { kind: 'same' };
}

function lacking(local: LocalIdentity, { peer, remembered, readLsn, retired }: Memory): string | null {
  if (retired) return `its number ${local.number} is the past of another database on ${peer}`;
  // What it remembers of another number is of a past that this database has left behind.
  const known = remembered?.number === local.number ? remembered : null;
  if (known !== null && !local.tokens.has(known.token))
    return `${peer} remembers a token that it lacks: it was restored or cloned`;
  if (local.confirmed) return null;
  const read = [known?.lsn ?? null, readLsn].filter((lsn) => lsn !== null);
  return read.some((lsn) => lsn > local.sinceLsn)
    ? `${peer} has read more of its WAL than it has: it was restored, or lost its end`
    : null;
}
