import { expect, test } from '@jest/globals';
import { WaitingRoom } from './waiting-room.process.ts';

const here = (): AbortSignal => new AbortController().signal;
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('as many as there are places go in, the others in the order in which they came', async () => {
  const room = new WaitingRoom({ runningMax: 2, waitingMax: 3, waitMs: 60_000 });
  const [first] = await Promise.all([room.enter(here()), room.enter(here())]);
  const came: number[] = [];
  const waiting = [0, 1, 2].map(async (at) => {
    const leave = await room.enter(here());
    came.push(at);
    return leave;
  });
  await settle();
  expect([room.running, room.waiting, came]).toEqual([2, 3, []]);
  await expect(room.enter(here())).rejects.toMatchObject({
    code: 'overloaded',
    extra: { retryAfterMs: 60_000 },
  });
  first();
  first();
  await settle();
  expect([room.running, room.waiting, came]).toEqual([2, 2, [0]]);
  // Who has just come does not overtake those who wait.
  const late = room.enter(here());
  (await waiting[0]!)();
  (await waiting[1]!)();
  (await waiting[2]!)();
  expect(came).toEqual([0, 1, 2]);
  (await late)();
  expect([room.running, room.waiting]).toEqual([1, 0]);
});

test('nobody waits for longer than is said, or when it is gone', async () => {
  const room = new WaitingRoom({ runningMax: 1, waitingMax: 5, waitMs: 20 });
  const leave = await room.enter(here());
  const gone = new AbortController();
  const left = room.enter(gone.signal);
  gone.abort();
  await expect(left).rejects.toMatchObject({ code: 'overloaded' });
  await expect(room.enter(gone.signal)).rejects.toMatchObject({ code: 'overloaded' });
  await expect(room.enter(here())).rejects.toMatchObject({ code: 'overloaded' });
  expect([room.running, room.waiting]).toEqual([1, 0]);
  leave();
  expect(room.running).toBe(0);
});

test('without a place to wait those above are refused at once', async () => {
  const room = new WaitingRoom({ runningMax: 1, waitingMax: 0, waitMs: 60_000 });
  const leave = await room.enter(here());
  await expect(room.enter(here())).rejects.toMatchObject({ code: 'overloaded' });
  leave();
  (await room.enter(here()))();
});
