/** Who writes rows under faults. */
import type { Ledger } from '../convergence/ledger.ts';
import { RandomWriter } from '../convergence/writer.ts';
import { dimension, mixedCollections, type Scene } from './scene.ts';

const { rows, attached, alone } = mixedCollections;

export interface CrowdOptions {
  readonly random: () => number;
  readonly ledgers: ReadonlyMap<string, Ledger>;
  readonly gateway: () => string;
  /** Node name -> number; grows. */
  readonly numbers: ReadonlyMap<string, number>;
}

/** Who writes rows: some on all masters, and one for each master that nobody else meets. */
export class Crowd {
  readonly #random: () => number;
  readonly #together: readonly RandomWriter[];
  readonly #joined: RandomWriter;
  readonly #apart: readonly RandomWriter[];

  private constructor(
    random: () => number,
    of: {
      readonly together: readonly RandomWriter[];
      readonly joined: RandomWriter;
      readonly apart: readonly RandomWriter[];
    },
  ) {
    this.#random = random;
    this.#together = of.together;
    this.#joined = of.joined;
    this.#apart = of.apart;
  }

  get #all(): readonly RandomWriter[] {
    return [...this.#together, this.#joined, ...this.#apart];
  }

  static gather(scene: Scene, { random, ledgers, gateway, numbers }: CrowdOptions): Crowd {
    const shared = { random, dimension, numbers };
    const together = [rows, attached].map(
      (collection) =>
        new RandomWriter({
          ...shared,
          masters: scene.members,
          ledger: ledgers.get(collection)!,
          collection,
          keys: 150,
          gateway,
        }),
    );
    const joined = new RandomWriter({
      ...shared,
      masters: [scene.masters[3]!],
      ledger: ledgers.get(rows)!,
      collection: rows,
      keys: 150,
      gateway: null,
      leaves: true,
    });
    const apart = scene.masters.map(
      (master, at) =>
        new RandomWriter({
          ...shared,
          masters: [master],
          ledger: ledgers.get(alone)!,
          collection: alone,
          keys: 20,
          gateway: null,
          prefix: `${master.name}-`,
          truncates: false,
          leaves: at === 3,
        }),
    );
    return new Crowd(random, { together, joined, apart });
  }

  async one(): Promise<void> {
    await this.#together[this.#random() < 0.7 ? 0 : 1]!.one();
  }

  /** On the master that has joined. */
  async onJoined(): Promise<void> {
    await this.#joined.one();
  }

  async alone(at: number): Promise<void> {
    await this.#apart[at]!.one();
  }

  counts(): { acknowledged: number; refused: number; unreachable: number } {
    const sum = { acknowledged: 0, refused: 0, unreachable: 0 };
    for (const { counts } of this.#all)
      for (const name of ['acknowledged', 'refused', 'unreachable'] as const) sum[name] += counts[name];
    return sum;
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((writer) => writer.close()));
  }
}
