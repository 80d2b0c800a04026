/** The statements of one collection on one session: prepared once, under names of their own. */
import type { ApplySession } from './session.pg.ts';
import { textArray } from '../postgres/binary-array.ts';
import type { TargetTable } from './target-table.ts';

export class CollectionStatements {
  readonly session: ApplySession;
  readonly table: TargetTable;

  constructor(session: ApplySession, table: TargetTable) {
    this.session = session;
    this.table = table;
  }

  run(statement: string, text: string, values: unknown[]) {
    return this.session.run<Record<string, unknown>>(this.named(statement), text, values);
  }

  /** Names of prepared statements: of at most 63 bytes, and never two alike for different collections. */
  named(statement: string): string {
    return `${statement} ${shortHash(this.table.collection)} ${this.table.collection}`.slice(0, 63);
  }

  keyArrays(keys: readonly (readonly string[])[]): Buffer[] {
    return this.table.key.map((_, at) => textArray(keys.map((key) => key[at]!)));
  }
}

/** A short name for a list of columns. */
export function shortHash(text: string): string {
  let value = 5381;
  for (let at = 0; at < text.length; at += 1) value = (Math.imul(value, 33) ^ text.charCodeAt(at)) >>> 0;
  return value.toString(36);
}
