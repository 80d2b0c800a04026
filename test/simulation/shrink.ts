/** Makes a failing history short: drops ever smaller runs of steps, then single writes of transactions, as long as it still fails. */
import type { History, Step } from './history.ts';

export function shrink(history: History, fails: (history: History) => boolean): History {
  let best = history;
  for (let size = Math.ceil(best.steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let again = true; again;) {
      again = false;
      for (let at = 0; at < best.steps.length;) {
        const shorter = { ...best, steps: best.steps.toSpliced(at, size) };
        if (fails(shorter)) {
          best = shorter;
          again = true;
        } else at += size;
      }
    }
  }
  for (let at = 0; at < best.steps.length; at += 1) {
    for (const simpler of simplerSteps(best.steps[at]!)) {
      const changed = { ...best, steps: best.steps.with(at, simpler) };
      if (fails(changed)) best = changed;
    }
  }
  return best;
}

function simplerSteps(step: Step): Step[] {
  switch (step.kind) {
    case 'write':
      return [
        ...step.writes.map((write) => ({ ...step, writes: [write] })),
        { ...step, writes: step.writes.map((write) => ({ ...write, request: null })) },
        { ...step, writes: step.writes.map((write) => ({ ...write, deleted: false })) },
      ];
    case 'capture':
      return [{ ...step, reread: 0 }];
    case 'crash':
      return [
        { ...step, part: 0 },
        { ...step, back: 0 },
      ];
    case 'purge':
      return [
        { ...step, key: null },
        { ...step, deletes: 0 },
        { ...step, synced: false },
      ];
    case 'time':
      return [{ ...step, skewMs: null }];
    default:
      return [];
  }
}
