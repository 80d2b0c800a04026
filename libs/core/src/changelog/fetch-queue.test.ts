import { expect, test } from '@jest/globals';
import { FetchQueue } from './fetch-queue.ts';

const settled = async (work: Promise<unknown>): Promise<boolean> =>
  Promise.race([
    work.then(
      () => true,
      () => true,
    ),
    new Promise<boolean>((resolve) => setImmediate(() => resolve(false))),
  ]);

test('gives back values in order, and their room only when they are released', async () => {
  const queue = new FetchQueue<string>(10);
  queue.put('a', 6);
  expect(await settled(queue.room())).toBe(true);
  queue.put('b', 6);
  const room = queue.room();
  expect(await settled(room)).toBe(false);
  const taken = await queue.take();
  expect(taken!.value).toBe('a');
  expect(await settled(room)).toBe(false);
  taken!.release();
  expect(await settled(room)).toBe(true);
  expect((await queue.take())!.value).toBe('b');
  expect(queue.bytes).toBe(6);
});

test('a taker waits for a value', async () => {
  const queue = new FetchQueue<string>(10);
  const taking = queue.take();
  expect(await settled(taking)).toBe(false);
  queue.put('a', 1);
  expect((await taking)!.value).toBe('a');
});

test('a failure comes after what was put before it', async () => {
  const queue = new FetchQueue<string>(10);
  queue.put('a', 1);
  queue.fail(new Error('broken'));
  expect((await queue.take())!.value).toBe('a');
  await expect(queue.take()).rejects.toThrow('broken');
});

test('the end frees everyone at once and drops what is left', async () => {
  const queue = new FetchQueue<string>(1);
  const taking = queue.take();
  queue.end();
  expect(await taking).toBeNull();
  const full = new FetchQueue<string>(1);
  full.put('a', 5);
  const room = full.room();
  full.end();
  await room;
  expect(await full.take()).toBeNull();
});
