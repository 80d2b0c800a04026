/** How an apply transaction can end. Pure. */
export interface ApplyCounts {
  written: number;
  skipped: number;
  conflicts: number;
  /** Each of them. */
  readonly found: { readonly collection: string; readonly kind: string }[];
  /** Rows that were gone behind the triggers' back, with nothing lost by it. */
  vanished: number;
}

/** A local write slipped in between reading and writing; nothing was kept. */
export class LocalWriteSlippedIn extends Error {
  override readonly name = 'LocalWriteSlippedIn';
}

/** What was taken to be absent can not simply be added. Nothing was kept: done again with statements that look first, it goes or says why not. */
export class CopyRefused extends Error {
  override readonly name = 'CopyRefused';
}

/** This node's part in the shard map is another than this session knew. Nothing was kept: done again at once, it goes by the new one. */
export class ShardRolesChanged extends Error {
  override readonly name = 'ShardRolesChanged';
}

/** Rows that have no version, or another presence than it says: they came or went behind the triggers' back and have to be stamped before they can be compared. */
export class UnversionedRows extends Error {
  override readonly name = 'UnversionedRows';
  readonly collection: string;
  readonly keys: readonly (readonly string[])[];
  constructor(collection: string, keys: readonly (readonly string[])[]) {
    super(`${keys.length} rows of ${collection} have no version`);
    this.collection = collection;
    this.keys = keys;
  }
}
