/** Whether masters hold the same. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestNode } from '#core/testing/masters.pg.ts';
import { difference, readState, type MasterState } from './states.ts';

/** Waits until all masters hold the same; says where they differ when they do not get there. */
export async function convergedMasters(masters: readonly TestNode[], collection: string): Promise<void> {
  const deadline = Date.now() + 300_000;
  for (;;) {
    const states = await Promise.all(masters.map((master) => readState(master, collection)));
    const differences = compare(states);
    if (differences.length === 0) return;
    if (Date.now() > deadline) throw new Error(`the masters differ:\n${differences.join('\n')}`);
    await sleep(500);
  }
}

function compare(states: readonly MasterState[]): string[] {
  const [first, ...others] = states;
  const found: string[] = [];
  others.forEach((other, at) => {
    for (const what of ['rows', 'versions', 'records'] as const) {
      const lines = difference(first![what], other[what]);
      if (lines.length > 0) found.push(`${what} of master 1 (-) and ${at + 2} (+):`, ...lines);
    }
  });
  for (const [at, state] of states.entries()) {
    if (state.parked > 0) found.push(`master ${at + 1} has ${state.parked} parked changes`);
    if (state.deadLetters > 0) found.push(`master ${at + 1} has ${state.deadLetters} dead letters`);
    found.push(...state.problems.map((problem) => `master ${at + 1} says of origin ${problem}`));
  }
  return found;
}
