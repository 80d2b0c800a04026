/** Who decides what may be purged, with the production rule for it: rounds over all nodes, then horizons, then tombstones. */
import { includes, type Clock } from '#core/versioning/clock.ts';
import { nextRound, type HolderReport, type PurgeRounds } from '#core/versioning/purge.ts';
import type { Step } from './history.ts';
import type { Fault } from './message.ts';
import type { SimNode } from './node.ts';

export interface Links {
  /** The counter of `origin` up to which `holder` has applied its transactions whole. */
  mergedCounter(origin: SimNode, holder: SimNode): number;
  isAway(node: SimNode): boolean;
  /** Everything arrives that can. */
  exchange(): void;
  trace(line: string): void;
}

export class Purging {
  readonly #nodes: readonly SimNode[];
  readonly #faults: ReadonlySet<Fault>;
  readonly #links: Links;
  #rounds: PurgeRounds | null = null;
  #raising: Clock | null = null;

  constructor(nodes: readonly SimNode[], faults: ReadonlySet<Fault>, links: Links) {
    this.#nodes = nodes;
    this.#faults = faults;
    this.#links = links;
  }

  /** Gives how many tombstones were deleted. */
  step(step: Step & { kind: 'purge' }, nowMs: number): number {
    for (let round = 0; round < step.rounds && this.#raising === null; round += 1) {
      if (step.synced) this.#links.exchange();
      this.#round(nowMs);
    }
    const clock = this.#raising;
    if (clock === null) return 0;
    const behind = this.#nodes.filter((node) => !includes(node.horizon.clock, clock));
    for (const node of behind.slice(0, step.raise)) {
      node.raise(clock);
      this.#links.trace(`horizon of ${node.number} raised to ${JSON.stringify(clock)}`);
    }
    if (behind.length > step.raise && !this.#faults.has('tombstones-deleted-before-all-agree')) return 0;
    this.#raising = null;
    return this.#delete(step, clock);
  }

  /** What the coordinator had begun, the next one does in full. */
  finish(): void {
    for (const node of this.#nodes) if (this.#raising !== null) node.raise(this.#raising);
  }

  #round(nowMs: number): void {
    const reports = new Map(this.#nodes.map((node) => [node.number, this.#report(node)]));
    const next = nextRound(this.#rounds, reports, { nowMs, graceMs: 0 });
    this.#raising = next.raiseTo;
    this.#rounds = next.rounds;
  }

  #report(holder: SimNode): HolderReport | undefined {
    if (this.#links.isAway(holder)) return undefined;
    const merged = this.#nodes.map((origin): [string, number] => [
      String(origin.number),
      origin === holder ? holder.counter : this.#links.mergedCounter(origin, holder),
    ]);
    return { merged: Object.fromEntries(merged), counter: holder.counter };
  }

  #delete(step: Step & { kind: 'purge' }, clock: Clock): number {
    let deleted = 0;
    for (const node of this.#nodes) {
      if (((step.deletes >> (node.number - 1)) & 1) === 0) continue;
      const keys = node.purge(clock);
      deleted += keys.length;
      if (keys.length > 0) this.#links.trace(`purged at ${node.number}: ${keys.join(' ')}`);
    }
    return deleted;
  }
}
