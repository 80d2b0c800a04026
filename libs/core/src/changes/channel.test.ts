import { afterEach, expect, test } from '@jest/globals';
import type { LogBatch, Position } from '../changelog/change.ts';
import { MemoryLog } from '../changelog/memory.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber } from '../versioning/version.ts';
import { ChangeChannel } from './channel.process.ts';
import type { OriginPlace } from './place.ts';
import type { ChangeSource } from './source.ts';

const origin = 1 as NodeNumber;
let log: MemoryLog;
let channel: ChangeChannel;
let stop: AbortController;

function open(options: { bufferBytesMax?: number; slowMs?: number; nearMax?: bigint } = {}): void {
  log = new MemoryLog({ origin, streams: 2 });
  stop = new AbortController();
  const source: ChangeSource = {
    origin: 'eu',
    readingsMax: 2,
    nearMax: options.nearMax ?? 1000n,
    held: async () => {
      const held = [...log.held()];
      return {
        generation: log.generation,
        first: new Map(held.map(([stream, { first }]) => [stream, first])),
        end: new Map(held.map(([stream, { end }]) => [stream, end])),
      };
    },
    open: async ({ generation }) => log.reader({ generation }),
    close: async () => undefined,
  };
  channel = new ChangeChannel(source, options);
}

afterEach(async () => {
  stop.abort();
  await channel.close();
});

function append(counter: number, bytes = 0): void {
  const version = { rank: 0, epoch: 0n as Epoch, hlc: BigInt(counter) as HlcValue, dot: { origin, counter }, clock: { 1: counter }, deleted: true, request: null, crdt: null }; // prettier-ignore
  const table = { collection: 'docs', columns: [{ name: 'id', type: 'text', isKey: true }] };
  const row = { table, values: [Buffer.alloc(bytes)] };
  log.add({
    origin,
    stream: 0,
    changes: [{ kind: 'write', collection: 'docs', key: [`k${counter}`], shard: (counter % 2) as ShardNumber, version, row, seen: null, losers: [], requests: [] }], // prettier-ignore
    position: BigInt(counter),
    commitTimeMs: 0,
    commitLsn: BigInt(counter),
    bytes,
  });
}

const beginning = (): OriginPlace => ({ generation: log.generation, positions: new Map<number, Position>() });
const counterOf = ({ changes: [change] }: LogBatch): number =>
  change?.kind === 'write' ? change.version.dot.counter : -1;

async function take(batches: AsyncGenerator<LogBatch, void>, count: number): Promise<number[]> {
  const found: number[] = [];
  while (found.length < count) {
    const next = await batches.next();
    if (next.done === true) throw new Error('it ended');
    found.push(counterOf(next.value));
  }
  return found.toSorted((a, b) => a - b);
}
const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, at) => from + at);

test('followers share one reading, which ends with the last of them', async () => {
  open();
  const followers = [1, 2, 3].map(() => channel.follow(beginning(), stop.signal));
  const taken = followers.map((follower) => take(follower, 10));
  for (const counter of numbers(1, 10)) append(counter);
  for (const found of await Promise.all(taken)) expect(found).toEqual(numbers(1, 10));
  expect(channel.readings).toBe(1);
  await Promise.all(followers.map((follower) => follower.return()));
  expect(channel.readings).toBe(0);
});

test('one who takes nothing holds up the others for a while only, and gets everything all the same', async () => {
  open({ bufferBytesMax: 20_000, slowMs: 50 });
  const quick = channel.follow(beginning(), stop.signal);
  const slow = channel.follow(beginning(), stop.signal);
  append(0);
  append(1);
  expect(await take(slow, 1)).toHaveLength(1);
  for (const counter of numbers(2, 200)) append(counter, 1000);
  expect(await take(quick, 201)).toEqual(numbers(0, 200));
  // It is told that it was too slow, and comes back with what it holds.
  await expect(take(slow, 200)).rejects.toMatchObject({ code: 'overloaded' });
  const again = channel.follow(beginning(), stop.signal);
  expect(await take(again, 201)).toEqual(numbers(0, 200));
});

test('one who is far behind reads for himself until he has caught up, and nobody waits for him', async () => {
  open({ nearMax: 20n });
  for (const counter of numbers(0, 399)) append(counter);
  const end = new Map([...log.held()].map(([stream, held]) => [stream, held.end] as const));
  const live = channel.follow({ generation: log.generation, positions: end }, stop.signal);
  const behind = channel.follow(beginning(), stop.signal);
  expect(await take(behind, 5)).toHaveLength(5);
  expect(channel.readings).toBe(1);
  const next = take(live, 1);
  append(400);
  expect(await next).toEqual([400]);
  expect(channel.readings).toBe(2);
  await take(behind, 396);
  append(401);
  const more = take(behind, 1);
  expect(await take(live, 1)).toEqual([401]);
  expect(await more).toEqual([401]);
  append(402);
  expect(await take(behind, 1)).toEqual([402]);
  expect(channel.readings).toBe(1);
});

test('more than a few who are far behind wait for their turn', async () => {
  open({ nearMax: 1n });
  for (const counter of numbers(0, 99)) append(counter);
  const followers = [1, 2, 3].map(() => channel.follow(beginning(), stop.signal));
  await take(followers[0]!, 1);
  await take(followers[1]!, 1);
  await expect(take(followers[2]!, 1)).rejects.toMatchObject({ code: 'overloaded' });
  await followers[0]!.return();
  expect(await take(channel.follow(beginning(), stop.signal), 100)).toEqual(numbers(0, 99));
});
