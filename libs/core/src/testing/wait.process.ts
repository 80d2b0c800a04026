/** Waiting for a condition with a deadline. */
import { setTimeout as delay } from 'node:timers/promises';
import { delaysAreArmed } from '../faults/delays.process.ts';

/** What waits before each statement takes so much longer. */
const patience = (): number => (delaysAreArmed() ? 5 : 1);

export interface WaitOptions {
  readonly withinMs?: number;
  readonly everyMs?: number;
}

/** Asks again until the answer is not false, null or undefined; fails with what was awaited, and the last error if there was one. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T> | T,
  { withinMs = 60_000, everyMs = 20 }: WaitOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = Date.now() + withinMs * patience();
  for (;;) {
    let failure: unknown;
    try {
      const answer = await ask();
      if (answer !== false && answer !== null && answer !== undefined)
        return answer as Exclude<T, false | null | undefined>;
    } catch (cause) {
      failure = cause;
    }
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`, { cause: failure });
    await delay(everyMs);
  }
}
