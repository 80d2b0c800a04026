/** What preflight looks at, and what it says. Pure. */
import type { ClockSample } from '../topology/clock-drift.ts';
import type { LogKind } from '../topology/names.ts';

export type Severity =
  /** Replication does not run, or can lose data. */
  | 'error'
  /** It runs, and somebody will be sorry later. */
  | 'warning'
  /** It runs, and would run better, or do more. */
  | 'advice';

export interface Mend {
  /** One after the other, each a statement of its own. */
  readonly statements: readonly string[];
  readonly as: 'superuser' | 'role';
  /** The server has to be restarted after them. */
  readonly restart: boolean;
}

export interface Finding {
  readonly node: string;
  readonly check: string;
  readonly severity: Severity;
  readonly seen: string;
  readonly why: string;
  /** Null when no statement can mend it: `why` says what does. */
  readonly mend: Mend | null;
}

export interface SettingFact {
  readonly value: string;
  /** From where the value is: an `alter system` does not change what the role or the database says. */
  readonly source: string;
}

export interface CollectionFact {
  readonly name: string;
  readonly schema: string;
  readonly table: string;
  /** pg_class.relreplident. */
  readonly identity: string;
  readonly owned: boolean;
}

export interface ServerFacts {
  readonly version: number;
  readonly settings: Readonly<Record<string, SettingFact>>;
  readonly inRecovery: boolean;
  readonly encoding: string;
  readonly systemIdentifier: string;
  readonly databaseOid: string;
  readonly database: string;
  readonly role: {
    readonly name: string;
    readonly superuser: boolean;
    readonly replication: boolean;
    readonly connectionLimit: number;
  };
  readonly may: {
    readonly createInDatabase: boolean;
    readonly createInPublic: boolean;
    readonly replicaRole: boolean;
    readonly readSettings: boolean;
    /** Signatures of the functions of replication origins that the role may not execute. */
    readonly originsRefused: readonly string[];
  };
  /** Objects in schema pgquorum that belong to somebody else. */
  readonly foreignObjects: readonly { readonly kind: string; readonly name: string }[];
  readonly vector: { readonly installed: string | null; readonly available: string | null };
  /** Of the whole server; `ours` are of this cluster and count as free. */
  readonly slots: { readonly used: number; readonly ours: number };
  readonly walSenders: { readonly used: number; readonly ours: number };
  readonly connections: number;
  readonly founded: { readonly cluster: string; readonly name: string; readonly log: string } | null;
  readonly collections: readonly CollectionFact[];
  /** Null when the data folder is not on this machine, or its path not shown to the role. */
  readonly disk: { readonly freeBytes: number; readonly totalBytes: number } | null;
}

export type Pooler = 'none' | 'session' | 'transaction';

export type NodeLook =
  | {
      readonly name: string;
      readonly reached: true;
      readonly facts: ServerFacts;
      readonly pooler: Pooler;
      /** Why the replication protocol can not be spoken; null when it can. */
      readonly replicationRefused: string | null;
      readonly clock: ClockSample | null;
    }
  | {
      readonly name: string;
      readonly reached: false;
      readonly sqlstate: string | null;
      /** Of the server, which names the role or the database at most. */
      readonly message: string;
    };

export interface PreflightNeeds {
  readonly cluster: string;
  readonly log: LogKind;
  readonly clockDriftMaxMs: number;
}

/** The settings that are looked at. */
export const lookedAtSettings = [
  'data_directory',
  'default_transaction_read_only',
  'fsync',
  'full_page_writes',
  'idle_replication_slot_timeout',
  'idle_session_timeout',
  'max_connections',
  'max_parallel_maintenance_workers',
  'max_prepared_transactions',
  'max_replication_slots',
  'max_slot_wal_keep_size',
  'max_wal_senders',
  'max_worker_processes',
  'statement_timeout',
  'superuser_reserved_connections',
  'synchronous_commit',
  'transaction_timeout',
  'wal_level',
] as const;
