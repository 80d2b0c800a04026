/**
 * The contract of a change log (libs/core/src/changelog/port.ts) as a suite. Each implementation brings a harness and passes all of it.
 *
 * The suite writes rows as the harness knows to, and looks at what readers deliver: which write of which key, where.
 */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { setTimeout as delay } from 'node:timers/promises';
import type { LogBatch, Position } from '#core/changelog/change.ts';
import type { ChangeLogReader, HeldPositions, Positions } from '#core/changelog/port.ts';
import { isPgquorumError } from '#core/errors/error.ts';
import { dotText } from '#core/versioning/version.ts';
import { mixedHistory, type WriteOp } from './write-history.ts';

/** One log of one origin, fresh for each test. */
export interface ChangeLogHarness {
  readonly collection: string;
  /** One transaction of the origin. Resolves when the log has it durably. A key occurs once. */
  write(ops: readonly WriteOp[]): Promise<void>;
  /** A reader that was not used before. */
  openReader(): Promise<ChangeLogReader>;
  /** What a reader that holds nothing starts from. */
  beginning(): Promise<Positions>;
  /** Makes the log forget all that it holds, as expiry or the loss of a slot does. */
  forget(): Promise<void>;
  /** What a reader holds that its consumer has not asked for yet. */
  bytesAhead(reader: ChangeLogReader): number;
  /** The bound of it. */
  readonly bytesAheadMax: number;
  close(): Promise<void>;
}

interface SeenWrite {
  readonly key: string;
  readonly kind: 'put' | 'delete';
  readonly dot: string;
  readonly counter: number;
  readonly stream: number;
}

const deadlineMs = 30_000;
jest.setTimeout(120_000);

/** `readers`: whether the log can be read by several at once. A slot has one reader. */
export function changeLogContract(
  name: string,
  { readers: allowed, open }: { readers: 'one' | 'many'; open: () => Promise<ChangeLogHarness> },
): void {
  describe(`the change log in ${name}`, () => {
    let log: ChangeLogHarness;
    const readers: ChangeLogReader[] = [];

    beforeEach(async () => {
      log = await open();
    });
    afterEach(async () => {
      for (const reader of readers.splice(0)) await reader.close();
      await log.close();
    });

    const openReader = async (): Promise<ChangeLogReader> => {
      const reader = await log.openReader();
      readers.push(reader);
      return reader;
    };
    const writesOf = (batches: readonly LogBatch[]): SeenWrite[] =>
      batches.flatMap((batch) => writesOfBatch(batch, log.collection));

    /** Reads with a reader of its own until so many different writes were seen. */
    async function readWrites(count: number, from: Positions): Promise<LogBatch[]> {
      const reader = await openReader();
      const batches = await readUntil(reader, from, (found) => distinct(writesOf(found)).length >= count);
      await reader.close();
      return batches;
    }

    test('delivers the writes of a key in commit order, always on the same stream', async () => {
      const history = mixedHistory();
      for (const ops of history) await log.write(ops);
      const seen = distinct(writesOf(await readWrites(history.flat().length, await log.beginning())));
      for (const key of new Set(history.flat().map((op) => op.key))) {
        const ofKey = seen.filter((one) => one.key === key);
        expect(ofKey.map(({ kind }) => kind)).toEqual(
          history
            .flat()
            .filter((op) => op.key === key)
            .map(({ kind }) => kind),
        );
        expect(ofKey.map(({ counter }) => counter)).toEqual(
          ofKey.map(({ counter }) => counter).toSorted((a, b) => a - b),
        );
        expect(new Set(ofKey.map(({ stream }) => stream)).size).toBe(1);
      }
    });

    test('has positions that only grow along a stream', async () => {
      for (const ops of mixedHistory()) await log.write(ops);
      const reading = readUntil(await openReader(), await log.beginning(), (found) =>
        writesOf(found).some(({ key }) => key === 'last'),
      );
      await delay(500); // idle, as it is most of the time
      await log.write([{ key: 'last', kind: 'put' }]);
      const batches = await reading;
      for (const [, ofStream] of groupBy(batches, ({ stream }) => stream)) {
        const positions = ofStream.map(({ position }) => position).filter((position) => position !== null);
        positions.slice(1).forEach((position, at) => expect(position > positions[at]!).toBe(true));
      }
    });

    test('can be resumed after any batch, without a gap', async () => {
      const history = mixedHistory();
      for (const ops of history) await log.write(ops);
      const beginning = await log.beginning();
      const all = await readWrites(history.flat().length, beginning);
      const wanted = new Set(writesOf(all).map(({ dot }) => dot));
      for (const cut of [0, 1, Math.floor(all.length / 3), Math.floor(all.length / 2), all.length - 1]) {
        const before = all.slice(0, cut);
        const held = heldAfter(before, beginning);
        const heldDots = new Set(writesOf(heldBatches(before)).map(({ dot }) => dot));
        const rest = await readWrites(wanted.size - heldDots.size, held);
        expect(new Set([...heldDots, ...writesOf(rest).map(({ dot }) => dot)])).toEqual(wanted);
      }
    });

    test('delivers what is written while it is being read', async () => {
      const reader = await openReader();
      // Both, in either order: they need not share a stream, and streams have no order among them.
      const reading = readUntil(
        reader,
        await log.beginning(),
        (found) => distinct(writesOf(found)).length >= 2,
      );
      await log.write([{ key: 'first', kind: 'put' }]);
      await delay(50);
      await log.write([{ key: 'last', kind: 'put' }]);
      expect(
        distinct(writesOf(await reading))
          .map(({ key }) => key)
          .toSorted(),
      ).toEqual(['first', 'last']);
    });

    test('goes at the pace of its consumer and holds a bounded number of bytes ahead of it', async () => {
      const size = 20_000;
      const count = Math.ceil((log.bytesAheadMax * 4 + 1_000_000) / size);
      for (let at = 0; at < count; at += 50) {
        await log.write(
          Array.from({ length: Math.min(50, count - at) }, (_, index): WriteOp => ({
            key: `k${at + index}`,
            kind: 'put',
            size,
          })),
        );
      }
      const reader = await openReader();
      const seen = new Set<string>();
      let worst = 0;
      let pauses = 0;
      await readUntil(
        reader,
        await log.beginning(),
        (found) => {
          for (const { dot } of writesOf(found.slice(-1))) seen.add(dot);
          return seen.size >= count;
        },
        async () => {
          if (pauses < 3) await delay(300);
          pauses += 1;
          worst = Math.max(worst, log.bytesAhead(reader));
        },
      );
      expect(worst).toBeLessThanOrEqual(log.bytesAheadMax);
    }, 120_000);

    test('ends within a second when it is told to, idle or busy', async () => {
      await log.write([{ key: 'a', kind: 'put' }]);
      const reader = await openReader();
      const stop = new AbortController();
      let abortedAt = Number.POSITIVE_INFINITY;
      const timer = setTimeout(() => {
        abortedAt = performance.now();
        stop.abort();
      }, 700);
      for await (const _ of reader.read({ from: await log.beginning(), signal: stop.signal }))
        expect(stop.signal.aborted).toBe(false);
      expect(performance.now() - abortedAt).toBeLessThan(1_000);
      clearTimeout(timer);
      await reader.close();

      for (let at = 0; at < 20; at += 1) await log.write([{ key: `b${at}`, kind: 'put', size: 5_000 }]);
      const busy = await openReader();
      const stopBusy = new AbortController();
      for await (const _ of busy.read({ from: await log.beginning(), signal: stopBusy.signal })) {
        abortedAt = performance.now();
        stopBusy.abort();
      }
      expect(performance.now() - abortedAt).toBeLessThan(1_000);
    });

    test('delivers nothing to a reader that is told to end before it begins', async () => {
      await log.write([{ key: 'a', kind: 'put' }]);
      const reader = await openReader();
      const found: LogBatch[] = [];
      for await (const batch of reader.read({ from: await log.beginning(), signal: AbortSignal.abort() }))
        found.push(batch);
      expect(found).toEqual([]);
    });

    test('delivers a large transaction whole, in parts that can be resumed', async () => {
      const ops = Array.from({ length: 3_000 }, (_, at): WriteOp => ({
        key: `large-${at}`,
        kind: 'put',
        size: 1_000,
      }));
      await log.write(ops);
      await log.write([{ key: 'after', kind: 'put' }]);
      const beginning = await log.beginning();
      const all = await readWrites(3_001, beginning);
      const seen = distinct(writesOf(all));
      expect(new Set(seen.map(({ key }) => key)).size).toBe(3_001);
      const half = all.slice(0, Math.ceil(all.length / 2));
      const held = heldAfter(half, beginning);
      const heldDots = new Set(writesOf(heldBatches(half)).map(({ dot }) => dot));
      const rest = await readWrites(3_001 - heldDots.size, held);
      expect(new Set([...heldDots, ...writesOf(rest).map(({ dot }) => dot)]).size).toBe(3_001);
    }, 120_000);

    test('goes on from what was confirmed', async () => {
      await log.write([{ key: 'a', kind: 'put' }]);
      await log.write([{ key: 'a', kind: 'delete' }]);
      const beginning = await log.beginning();
      const reader = await openReader();
      const first = await readUntil(
        reader,
        beginning,
        (found) => distinct(writesOf(found)).length >= 2,
        undefined,
        (held) => {
          for (const [stream, position] of held) reader.confirm(stream, position);
        },
      );
      await reader.close();
      await log.write([{ key: 'c', kind: 'put' }]);
      const next = await openReader();
      const rest = await readUntil(next, heldAfter(first, beginning), (found) =>
        writesOf(found).some(({ key }) => key === 'c'),
      );
      expect(writesOf(rest).map(({ key }) => key)).toEqual(['c']);
    });

    test('says where it ends: reading from there delivers only what comes later', async () => {
      await log.write([{ key: 'a', kind: 'put' }]);
      await readWrites(1, await log.beginning());
      const reader = await openReader();
      const ends = endsOf(await reader.positions());
      await log.write([{ key: 'b', kind: 'put' }]);
      const found = await readUntil(reader, ends, (batches) =>
        writesOf(batches).some(({ key }) => key === 'b'),
      );
      expect(writesOf(found).map(({ key }) => key)).toEqual(['b']);
    });

    test('throws position_lost and yields nothing when it no longer holds what follows', async () => {
      for (let at = 0; at < 30; at += 1) await log.write([{ key: `k${at}`, kind: 'put' }]);
      const beginning = await log.beginning();
      const all = await readWrites(30, beginning);
      const early = heldAfter(all.slice(0, 3), beginning);
      await log.forget();
      for (const from of [early, beginning]) {
        const reader = await openReader();
        const found: LogBatch[] = [];
        const error = await collect(reader, from, found).then(
          () => null,
          (reason: unknown) => reason,
        );
        expect(isPgquorumError(error) && error.code).toBe('position_lost');
        expect(found).toEqual([]);
      }
    });

    if (allowed === 'many') {
      test('can be read by several readers, each at its own place', async () => {
        for (const ops of mixedHistory()) await log.write(ops);
        const beginning = await log.beginning();
        const count = mixedHistory().flat().length;
        const [one, other] = await Promise.all([readWrites(count, beginning), readWrites(count, beginning)]);
        expect(new Set(writesOf(one).map(({ dot }) => dot))).toEqual(
          new Set(writesOf(other).map(({ dot }) => dot)),
        );
      });
    } else {
      test('refuses a second reader while the first one reads', async () => {
        await log.write([{ key: 'a', kind: 'put' }]);
        const beginning = await log.beginning();
        let refusal: unknown = null;
        const found = await readUntil(
          await openReader(),
          beginning,
          (batches) => writesOf(batches).some(({ key }) => key === 'b'),
          async () => {
            if (refusal !== null) return;
            refusal = await collect(await openReader(), beginning, []).catch((cause: unknown) => cause);
            await log.write([{ key: 'b', kind: 'put' }]);
          },
        );
        expect(isPgquorumError(refusal) && refusal.code).toBe('slot_in_use');
        expect(distinct(writesOf(found)).map(({ key }) => key)).toEqual(['a', 'b']);
      });
    }
  });
}

function writesOfBatch({ changes, stream }: LogBatch, collection: string): SeenWrite[] {
  return changes.flatMap((change) =>
    change.kind === 'write' && change.collection === collection
      ? [
          {
            key: change.key[0]!,
            kind: change.version.deleted ? 'delete' : 'put',
            dot: `${change.key[0]!} ${dotText(change.version.dot)}`,
            counter: change.version.dot.counter,
            stream,
          },
        ]
      : [],
  );
}

/** Without repetitions: the first delivery of each write. */
function distinct(writes: readonly SeenWrite[]): SeenWrite[] {
  const seen = new Set<string>();
  return writes.filter(({ dot }) => !seen.has(dot) && seen.add(dot) !== undefined);
}

/** Reads until it is enough, or fails after the deadline. `each` runs after every batch, while the reader has to wait. */
async function readUntil(
  reader: ChangeLogReader,
  from: Positions,
  enough: (batches: readonly LogBatch[]) => boolean,
  each?: () => Promise<void>,
  atEnd?: (held: Positions) => void,
): Promise<LogBatch[]> {
  const batches: LogBatch[] = [];
  if (enough(batches)) return batches;
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), deadlineMs);
  try {
    for await (const batch of reader.read({ from, signal: stop.signal })) {
      batches.push(batch);
      await each?.();
      if (!enough(batches)) continue;
      atEnd?.(heldAfter(batches, from));
      return batches;
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error(
    `the log delivered ${batches.length} batches with ${batches.flatMap(({ changes }) => changes).length} changes, and then nothing for ${deadlineMs} ms`,
  );
}

async function collect(reader: ChangeLogReader, from: Positions, into: LogBatch[]): Promise<void> {
  const signal = AbortSignal.timeout(deadlineMs);
  for await (const batch of reader.read({ from, signal })) into.push(batch);
}

/** What a consumer of these batches holds. */
function heldAfter(batches: readonly LogBatch[], from: Positions): Positions {
  const held = new Map<number, Position>(from);
  for (const { stream, position } of batches) if (position !== null) held.set(stream, position);
  return held;
}

/** Parts of a transaction are held when its last part is: the one with a position. */
const heldBatches = (batches: readonly LogBatch[]): LogBatch[] =>
  batches.filter(({ stream }, at) =>
    batches.slice(at).some((later) => later.stream === stream && later.position !== null),
  );

const endsOf = (held: HeldPositions): Positions =>
  new Map([...held].map(([stream, { end }]) => [stream, end]));

function groupBy<T, K>(values: readonly T[], keyOf: (value: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const value of values) groups.set(keyOf(value), [...(groups.get(keyOf(value)) ?? []), value]);
  return groups;
}
