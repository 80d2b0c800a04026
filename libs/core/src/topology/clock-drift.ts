/**
 * How far the clocks of the nodes are apart. A sample is a node's time against this process's monotonic clock, taken in the middle of a round trip, so the true
 * value is within half the round trip of it. Clocks are reported, never obeyed: merging takes any time (that a write beats what it has seen does not depend on clocks). Pure.
 */

/** The node's clock less the observer's, in ms; only differences between nodes mean anything. */
export interface ClockSample {
  readonly offsetMs: number;
  readonly roundTripMs: number;
}

const samplesMax = 8;
/** What two good clocks may drift apart, and what rounding adds, while the samples are kept. */
const toleranceMs = 1;

export function takeSample(nodeMs: number, sentMs: number, answeredMs: number): ClockSample {
  return { offsetMs: nodeMs - (sentMs + answeredMs) / 2, roundTripMs: answeredMs - sentMs };
}

/** The newest samples, oldest first. Those that contradict the newest go: the clock was set in between, and a short round trip of before would hide it. */
export function withSample(samples: readonly ClockSample[], newest: ClockSample): ClockSample[] {
  const agrees = (sample: ClockSample) =>
    Math.abs(sample.offsetMs - newest.offsetMs) <=
    (sample.roundTripMs + newest.roundTripMs) / 2 + toleranceMs;
  return [...samples.slice(1 - samplesMax).filter(agrees), newest];
}

/** The sample of the shortest round trip is the most exact one. */
export function bestSample(samples: readonly ClockSample[]): ClockSample | null {
  return samples.reduce<ClockSample | null>(
    (best, sample) => (best === null || sample.roundTripMs <= best.roundTripMs ? sample : best),
    null,
  );
}

/** What one observer found, by node number. */
export type ClockView = ReadonlyMap<number, ClockSample>;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * Each node's clock against the median of the nodes. Several observers may have looked: each one's view is set against its own median, so that views of the
 * same nodes are comparable, and the middle one counts. Who sees less of the cluster than another is left out: its median means less.
 */
export function offsetsAgainstMedian(views: readonly ClockView[]): Map<number, number> {
  const most = Math.max(0, ...views.map((view) => view.size));
  const found = new Map<number, number[]>();
  for (const view of views.filter((one) => one.size === most && one.size > 1)) {
    const middle = median([...view.values()].map((sample) => sample.offsetMs));
    for (const [node, sample] of view)
      found.set(node, [...(found.get(node) ?? []), sample.offsetMs - middle]);
  }
  return new Map([...found].map(([node, offsets]) => [node, Math.round(median(offsets) * 10) / 10]));
}

/** Positive: the node's clock is ahead. */
export const drifts = (offsetMs: number | null, maxMs: number): boolean =>
  offsetMs !== null && Math.abs(offsetMs) > maxMs;
