/** What is written to a change log to see what comes out of it. */
export interface WriteOp {
  readonly key: string;
  readonly kind: 'put' | 'delete';
  /** Bytes of the row, about. */
  readonly size?: number;
}

/** Twenty keys, of which some are written often, deleted, and written again; transactions of one to five keys. */
export function mixedHistory(): WriteOp[][] {
  const history: WriteOp[][] = [];
  for (let round = 0; round < 40; round += 1) {
    const keys = new Set(
      Array.from({ length: 1 + (round % 5) }, (_, at) => `k${(round * (at + 3) + at) % 20}`),
    );
    history.push(
      [...keys].map((key, at) => ({
        key,
        kind: round % 7 === 3 && at === 0 ? 'delete' : 'put',
        size: 50 + round,
      })),
    );
  }
  // A delete of what is not there is no write: every key begins with a put.
  history.unshift(Array.from({ length: 20 }, (_, at) => ({ key: `k${at}`, kind: 'put' })));
  return withoutRepeatedDeletes(history);
}

function withoutRepeatedDeletes(history: readonly WriteOp[][]): WriteOp[][] {
  const gone = new Set<string>();
  return history.map((ops) =>
    ops.map((op) => {
      const kind = op.kind === 'delete' && gone.has(op.key) ? 'put' : op.kind;
      if (kind === 'delete') gone.add(op.key);
      else gone.delete(op.key);
      return { ...op, kind };
    }),
  );
}
