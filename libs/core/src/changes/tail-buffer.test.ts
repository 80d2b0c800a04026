import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { LogBatch, Position } from '../changelog/change.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { TailBuffer, type TailCursor } from './tail-buffer.ts';

const never = new AbortController().signal;
const batch = (stream: number, position: Position | null, bytes = 0): LogBatch => ({
  origin: 1 as NodeNumber,
  stream,
  changes: [],
  position,
  commitTimeMs: 0,
  commitLsn: 0n,
  bytes,
});

/** What is there for a cursor, without waiting for more. */
async function taken(cursor: TailCursor): Promise<LogBatch[]> {
  const found: LogBatch[] = [];
  for (;;) {
    const next = await Promise.race([
      cursor.next(never),
      new Promise<null>((resolve) => setImmediate(resolve, null)),
    ]);
    if (next === null) return found;
    found.push(next);
  }
}

test('whoever joins gets every batch after what he holds, whatever was evicted before, or may not join', async () => {
  const step = fc.record({
    stream: fc.integer({ min: 0, max: 1 }),
    isPart: fc.boolean(),
    bytes: fc.integer({ min: 0, max: 2000 }),
  });
  const held = fc.integer({ min: -1, max: 40 });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), held, held, async (steps, held0, held1) => {
      const buffer = new TailBuffer({ from: new Map(), bytesMax: 4000 });
      const all = steps.map(({ stream, isPart, bytes }, at) =>
        batch(stream, isPart ? null : BigInt(at), bytes),
      );
      for (const one of all) buffer.put(one);
      const holds = [held0, held1];
      const cursor = buffer.join(
        new Map(holds.flatMap((at, stream) => (at < 0 ? [] : [[stream, BigInt(at)]]))),
      );
      if (cursor === null) return;
      const found = new Set(await taken(cursor));
      // The last position at or below what is held; everything of the stream after it has to be told.
      for (const [at, one] of all.entries()) {
        const lastHeld = all.findLastIndex(
          (other, index) =>
            other.stream === one.stream && other.position !== null && index <= holds[one.stream]!,
        );
        if (at > lastHeld && at > holds[one.stream]!) expect(found.has(one)).toBe(true);
      }
    }),
  );
});

test('nothing is evicted before every cursor has taken it, and a cursor that is given up says so', async () => {
  const buffer = new TailBuffer({ from: new Map([[0, 0n]]), bytesMax: 1000 });
  const quick = buffer.join(new Map([[0, 0n]]))!;
  const slow = buffer.join(new Map([[0, 0n]]))!;
  for (let at = 1n; at <= 5n; at += 1n) buffer.put(batch(0, at, 400));
  expect((await taken(quick)).length).toBe(5);
  expect(buffer.full).toBe(true);
  expect((await slow.next(never))?.position).toBe(1n);
  buffer.drop(new Error('too slow'));
  await expect(slow.next(never)).rejects.toThrow('too slow');
  expect(buffer.full).toBe(false);
  expect(buffer.join(new Map([[0, 1n]]))).toBe(null);
  expect(buffer.join(new Map([[0, 5n]]))).not.toBe(null);
});

test('a cursor takes what is here before it hears that the reading failed, and waits until something comes', async () => {
  const buffer = new TailBuffer({ from: new Map(), bytesMax: 1000 });
  const cursor = buffer.join(new Map())!;
  const waiting = cursor.next(never);
  buffer.put(batch(0, 1n));
  expect((await waiting)?.position).toBe(1n);
  buffer.put(batch(0, 2n));
  buffer.fail(new Error('broken'));
  expect((await cursor.next(never))?.position).toBe(2n);
  await expect(cursor.next(never)).rejects.toThrow('broken');
  const gone = new AbortController();
  const ended = new TailBuffer({ from: new Map(), bytesMax: 1 }).join(new Map())!.next(gone.signal);
  gone.abort();
  expect(await ended).toBe(null);
});
