/** A table that existed before it became a collection, as the catalog of one node describes it. All SQL in it is fully qualified. Pure types. */

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** The sequence that gives a column its numbers. */
export interface ColumnSequence extends TableName {
  /** `identity`: made with the column; `owned`: dropped with it (serial); `used`: only named in its default. */
  readonly tie: 'identity' | 'owned' | 'used';
  readonly type: string;
  readonly increment: string;
  readonly start: string;
  readonly min: string;
  readonly max: string;
  readonly cache: string;
  readonly cycle: boolean;
  /** The last number given out, or the first one that will be; null where nobody asked. */
  readonly position: string | null;
}

export interface ExistingColumn {
  readonly name: string;
  /** As SQL writes it, with modifier and schema. */
  readonly type: string;
  /** The name of the type, of a domain that of the type under it. */
  readonly baseType: string;
  readonly isDomain: boolean;
  /** Null where the type has no binary output. */
  readonly send: string | null;
  readonly modifier: number;
  readonly notNull: boolean;
  readonly default: string | null;
  /** '' or how Postgres generates it: 's' stored, 'v' when read. */
  readonly generated: string;
  /** '' or an identity: 'a' always, 'd' by default. */
  readonly identity: string;
  /** Null for types without one. */
  readonly collation: {
    readonly name: string;
    readonly deterministic: boolean;
    readonly isTypes: boolean;
  } | null;
  /** Null where it is the type's own. */
  readonly storage: string | null;
  readonly comment: string | null;
  readonly sequence: ColumnSequence | null;
}

export interface ForeignKey {
  readonly name: string;
  readonly from: TableName;
  readonly to: TableName;
  readonly definition: string;
  /** Does a write of the table that is referred to change or delete rows of the other? */
  readonly acts: boolean;
  /** Both tables are collections, or are one. */
  readonly bothReplicated: boolean;
}

export interface ExistingTable extends TableName {
  readonly kind: string;
  readonly persistence: string;
  readonly owner: string;
  readonly isOwned: boolean;
  readonly isPartition: boolean;
  readonly isInherited: boolean;
  readonly replicaIdentity: string;
  readonly hidesRows: boolean;
  readonly policies: number;
  readonly rules: number;
  /** As the planner estimates; -1 when it has never looked. */
  readonly rowsEstimated: number;
  readonly hasRows: boolean;
  readonly columns: readonly ExistingColumn[];
  readonly key: {
    readonly name: string;
    readonly columns: readonly string[];
    readonly deferrable: boolean;
    readonly definition: string;
  } | null;
  /** Unique and exclusion constraints and unique indexes beside the key. */
  readonly uniques: readonly { readonly name: string; readonly definition: string }[];
  /** Constraints to be made anew elsewhere, the key and foreign keys left out. */
  readonly constraints: readonly { readonly name: string; readonly definition: string }[];
  /** Indexes that belong to no constraint. */
  readonly indexes: readonly { readonly name: string; readonly definition: string }[];
  readonly foreignKeys: readonly ForeignKey[];
  readonly referencedBy: readonly ForeignKey[];
  /** Users' triggers that run when replication writes. */
  readonly triggers: readonly string[];
  /** Users' triggers of any kind. */
  readonly triggersAll: number;
  readonly subscriptions: readonly string[];
  readonly collection: string | null;
  readonly comment: string | null;
  readonly options: readonly string[];
  readonly grants: readonly {
    readonly role: string | null;
    readonly privilege: string;
    readonly grantable: boolean;
  }[];
}

/** What a node says about a table, and what pgquorum's role may do there. */
export interface NodeTable {
  readonly node: string;
  readonly role: string;
  /** May the role keep users' triggers and foreign-key actions from running while it applies? */
  readonly replicaRole: boolean;
  readonly table: ExistingTable | null;
}
