/**
 * What was acknowledged, and whether all of it is accounted for in the end: each write is current, or was seen by a version that is current or
 * in a conflict record, or is in a conflict record itself; and what stands under a version is what its writer wrote.
 */
export interface Acknowledged {
  readonly key: string;
  readonly dot: string;
  readonly deleted: boolean;
  /** The marker in the row's metadata; null for deletes. */
  readonly marker: string | null;
}

export interface FinalVersion {
  readonly key: string;
  readonly origin: number;
  readonly counter: string;
  readonly clock: Record<string, number>;
  readonly deleted: boolean;
}

export interface FinalRecord {
  readonly key: string;
  readonly origin: number;
  readonly counter: string;
  readonly clock: Record<string, number>;
  readonly deleted: boolean;
  readonly row: { metadata: string } | null;
  readonly state: string;
}

export interface FinalState {
  readonly versions: readonly FinalVersion[];
  readonly records: readonly FinalRecord[];
  /** Key -> marker of the row that stands. */
  readonly rows: ReadonlyMap<string, string>;
}

export class Ledger {
  readonly #writes: Acknowledged[] = [];

  add(write: Acknowledged): void {
    this.#writes.push(write);
  }

  get size(): number {
    return this.#writes.length;
  }

  /** Sentences about what is wrong; empty when all is well. */
  audit(state: FinalState): string[] {
    const versions = new Map(state.versions.map((version) => [version.key, version]));
    const records = Map.groupBy(state.records, (record) => record.key);
    const problems: string[] = [];
    const names = new Map<string, string>();
    for (const write of this.#writes) {
      const known = names.get(`${write.dot}`);
      if (known !== undefined && known !== write.key)
        problems.push(`dot ${write.dot} names writes of ${known} and of ${write.key}`);
      names.set(write.dot, write.key);
      problems.push(
        ...this.#auditOne(
          write,
          versions.get(write.key),
          records.get(write.key) ?? [],
          state.rows.get(write.key),
        ),
      );
    }
    return problems;
  }

  #auditOne(
    write: Acknowledged,
    version: FinalVersion | undefined,
    records: readonly FinalRecord[],
    marker: string | undefined,
  ): string[] {
    const { key, dot, deleted } = write;
    if (version === undefined) return [`${key}: write ${dot} was acknowledged, but the key has no version`];
    if (dotOf(version) === dot) {
      if (version.deleted !== deleted)
        return [
          `${key}: the version of ${dot} says deleted=${version.deleted}, it was written as ${deleted}`,
        ];
      return marker === (write.marker ?? undefined)
        ? []
        : [`${key}: under version ${dot} stands row ${marker}, written was ${write.marker}`];
    }
    const record = records.find((one) => dotOf(one) === dot);
    if (record !== undefined) {
      const kept = record.row === null ? null : (JSON.parse(record.row.metadata) as { w?: string }).w;
      return kept === write.marker
        ? []
        : [`${key}: the record of ${dot} keeps row ${kept}, written was ${write.marker}`];
    }
    const [origin, counter] = dot.split('.') as [string, string];
    const seen = (clock: Record<string, number>): boolean => (clock[origin] ?? 0) >= Number(counter);
    if (seen(version.clock) || records.some((one) => seen(one.clock))) return [];
    return [
      `${key}: write ${dot} was acknowledged and is neither current nor seen by what is, nor in a conflict record`,
    ];
  }
}

const dotOf = (one: { readonly origin: number; readonly counter: string }): string =>
  `${one.origin}.${one.counter}`;
