/**
 * Judges a history of writes and reads of single keys. What it holds a system to:
 * - a read at QUORUM gives back, of all writes of its key that were acknowledged at QUORUM or ALL before it began, none less: what it shows has seen them, or is
 *   concurrent to them and greater;
 * - it never shows less than another read at QUORUM that had ended before it began;
 * - a read that carries a write's token shows no less than that write;
 * - where it shows that there is nothing, a delete may have been the last.
 * It knows nothing of how the system works but the order of versions. Pure.
 */
export interface Shown {
  /** `<number>.<counter>`. */
  readonly text: string;
  readonly hlc: string;
  readonly clock: Readonly<Record<string, string>>;
}

export type Level = 'one' | 'quorum' | 'all';

export interface WriteEvent {
  readonly kind: 'write' | 'delete';
  readonly key: string;
  readonly level: Level;
  readonly began: number;
  readonly ended: number;
  /** `fail`: it did not happen. `unknown`: it may have, or may stand on too few. */
  readonly outcome: 'ok' | 'unknown' | 'fail';
  readonly version: Shown | null;
}

export interface ReadEvent {
  readonly kind: 'read';
  readonly key: string;
  readonly level: Level;
  readonly began: number;
  readonly ended: number;
  /** Null = there is nothing. */
  readonly version: Shown | null;
  /** The write whose token it carried. */
  readonly token: WriteEvent | null;
}

export type Event = WriteEvent | ReadEvent;

const dotOf = (text: string): [string, bigint] => {
  const [origin, counter] = text.split('.');
  return [origin!, BigInt(counter!)];
};

const hasSeen = (shown: Shown, text: string): boolean => {
  const [origin, counter] = dotOf(text);
  return BigInt(shown.clock[origin] ?? '0') >= counter;
};

function compare(a: Shown, b: Shown): number {
  if (a.hlc !== b.hlc) return BigInt(a.hlc) < BigInt(b.hlc) ? -1 : 1;
  const [[origin, counter], [other, than]] = [dotOf(a.text), dotOf(b.text)];
  if (origin !== other) return Number(origin) - Number(other);
  return counter === than ? 0 : counter < than ? -1 : 1;
}

/** Is `shown` no less than `earlier`? */
const reaches = (shown: Shown, earlier: Shown): boolean =>
  hasSeen(shown, earlier.text) || (!hasSeen(earlier, shown.text) && compare(shown, earlier) > 0);

const isStrong = ({ level }: { readonly level: Level }): boolean => level !== 'one';

const tell = (event: Event): string =>
  `${event.kind} ${event.key} at ${event.level} [${event.began.toFixed(0)}, ${event.ended.toFixed(0)}] ${event.version?.text ?? 'nothing'}`;

/** What is wrong with the history; nothing when all is well. */
export function problemsOf(history: readonly Event[]): string[] {
  const problems: string[] = [];
  for (const events of Map.groupBy(history, ({ key }) => key).values()) {
    const writes = events.filter((event): event is WriteEvent => event.kind !== 'read');
    const reads = events.filter((event): event is ReadEvent => event.kind === 'read');
    for (const read of reads) {
      const due = isStrong(read)
        ? writes.filter((write) => write.outcome === 'ok' && isStrong(write) && write.ended < read.began)
        : [];
      const named = read.token === null ? due : [...due, read.token];
      for (const write of named)
        if (!showsNoLess(read, write, writes)) problems.push(`${tell(read)} misses ${tell(write)}`);
      if (!isStrong(read)) continue;
      for (const earlier of reads)
        if (isStrong(earlier) && earlier.ended < read.began && !goesOn(read, earlier, writes))
          problems.push(`${tell(read)} goes back behind ${tell(earlier)}`);
    }
  }
  return problems;
}

/** There is nothing where a delete that may have happened was not over before `event` began. */
const mayBeGone = (read: ReadEvent, event: Event, writes: readonly WriteEvent[]): boolean =>
  writes.some(
    (one) =>
      one.kind === 'delete' && one.outcome !== 'fail' && one.began < read.ended && one.ended > event.began,
  );

function showsNoLess(read: ReadEvent, write: WriteEvent, writes: readonly WriteEvent[]): boolean {
  if (read.version === null) return write.kind === 'delete' || mayBeGone(read, write, writes);
  return write.version === null || reaches(read.version, write.version);
}

function goesOn(read: ReadEvent, earlier: ReadEvent, writes: readonly WriteEvent[]): boolean {
  if (earlier.version === null) return true;
  if (read.version === null) return mayBeGone(read, earlier, writes);
  return reaches(read.version, earlier.version);
}
