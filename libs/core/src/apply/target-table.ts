/** A collection's table on the node that is applied to, as statements need to know it. Pure types. */
import type { StampedTable } from '../collections/unversioned-rows.ts';
import type { TypeShape } from './type-shape.ts';

export interface TargetColumn {
  readonly name: string;
  /** Type name without schema, as in a TableImage: of a domain, the type under it. */
  readonly type: string;
  readonly typeOid: number;
  /** Schema-qualified and quoted, for casts. */
  readonly sqlType: string;
  readonly isArray: boolean;
  readonly generated: boolean;
  /** Where its values name types by oid. */
  readonly shape: TypeShape | null;
}

export interface TargetTable extends StampedTable {
  readonly columns: readonly TargetColumn[];
  /** May rows be added by `copy`? */
  readonly copyable: boolean;
}
