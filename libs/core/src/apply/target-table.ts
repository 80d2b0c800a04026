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
  /** What a row of an origin that lacks the column has here. */
  readonly missing: Missing;
  /** Where its values name types by oid. */
  readonly shape: TypeShape | null;
}

/** Filled with a constant, which all masters that get the column by the same statement have too; or not to be told, and then that is drift. */
export type Missing =
  { readonly kind: 'fill'; readonly sql: string } | { readonly kind: 'drift'; readonly why: string };

export interface TargetTable extends StampedTable {
  readonly columns: readonly TargetColumn[];
  /** Number of its columns, dropped ones included: grows when one is added. */
  readonly attributes: number;
  /** May rows be added by `copy`? */
  readonly copyable: boolean;
}
