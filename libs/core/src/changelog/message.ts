/**
 * Changes to and from the plain objects that protobufjs encodes as `pgquorum.v1.Change`. Pure.
 *
 * Fields that have their default value are left out, as proto3 does; on the way back protobufjs fills them in.
 */
import type { Enum, Root } from 'protobufjs';
import { PgquorumError, unreachable } from '../errors/error.ts';
import type { Clock } from '../versioning/clock.ts';
import type { CrdtState } from '../versioning/crdt/state.ts';
import type { RememberedRequest } from '../versioning/merge.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber, Version } from '../versioning/version.ts';
import type {
  Change,
  ColumnImage,
  ConflictRecord,
  ConflictState,
  LogBatch,
  RowImage,
  TableImage,
} from './change.ts';
import { toBinary, toForm, type Int64, type ValueForm } from './column-value.ts';

/** What all changes of a transaction have in common. */
export type Commit = Pick<LogBatch, 'origin' | 'commitTimeMs' | 'commitLsn'>;

export interface DecodedChange {
  readonly change: Change;
  readonly origin: NodeNumber;
  readonly originName: string;
  readonly commitTimeMs: number;
  readonly commitLsn: bigint;
}

type Integer = Int64 | number;

interface ClockMessage {
  counters?: Record<string, Integer>;
}
interface VersionMessage {
  rank: number;
  epoch: Integer;
  hlc: Integer;
  origin: number;
  counter: Integer;
  clock?: ClockMessage | null;
  deleted: boolean;
  request?: string | null;
  crdtJson?: string | null;
}
interface RequestMessage {
  request: string;
  origin: number;
  counter: Integer;
  hlc: Integer;
  clock?: ClockMessage | null;
}
interface ColumnMessage {
  name: string;
  type: string;
  key: boolean;
  value?: ValueForm | null;
}
interface ConflictMessage {
  id: string;
  collection: string;
  key: string[];
  shard: number;
  kind: number;
  loser?: VersionMessage | null;
  rowJson?: string | null;
  winner?: { origin: number; counter: Integer } | null;
  winnerHlc: Integer;
  state: number;
  stateHlc: Integer;
  stateOrigin: number;
  decidedBy: string;
  reason: string;
}
export interface ChangeMessage {
  id: string;
  operation: number;
  origin: string;
  originNumber: number;
  commitTimeUs: Integer;
  commitLsn: Integer;
  collection: string;
  key: string[];
  shard: number;
  version?: VersionMessage | null;
  row?: { columns?: ColumnMessage[] } | null;
  seen?: ClockMessage | null;
  losers: ConflictMessage[];
  conflict?: ConflictMessage | null;
  requests: RequestMessage[];
}

/** Between our words and the numbers of an enum in the schema: `update-delete` is CONFLICT_KIND_UPDATE_DELETE. */
class Words<W extends string> {
  readonly #name: string;
  readonly #numbers = new Map<string, number>();
  readonly #words = new Map<number, W>();

  constructor(schema: Enum, prefix: string) {
    this.#name = schema.name;
    for (const [name, number] of Object.entries(schema.values)) {
      if (number === 0) continue;
      const word = name.slice(prefix.length).toLowerCase().replaceAll('_', '-') as W;
      this.#numbers.set(word, number);
      this.#words.set(number, word);
    }
  }

  number(word: W): number {
    const found = this.#numbers.get(word);
    if (found === undefined)
      throw new PgquorumError('invariant_broken', `the schema has no ${this.#name} for ${word}`);
    return found;
  }

  word(number: number): W {
    const found = this.#words.get(number);
    if (found === undefined)
      throw new PgquorumError(
        'not_supported',
        `a change log message has the ${this.#name} ${number}, which this version does not know`,
      );
    return found;
  }
}

type Operation = 'upsert' | 'delete' | 'conflict' | 'heartbeat';

export class ChangeMessages {
  readonly #operations: Words<Operation>;
  readonly #kinds: Words<ConflictRecord['kind']>;
  readonly #states: Words<ConflictState>;
  /** The newest table of each collection: its rows share one object, so that statements made for a table can be found by it. */
  readonly #tables = new Map<string, TableImage>();

  constructor(schema: Root) {
    this.#operations = new Words(schema.lookupEnum('pgquorum.v1.Operation'), 'OPERATION_');
    this.#kinds = new Words(schema.lookupEnum('pgquorum.v1.ConflictKind'), 'CONFLICT_KIND_');
    this.#states = new Words(schema.lookupEnum('pgquorum.v1.ConflictState'), 'CONFLICT_STATE_');
  }

  operation(word: Operation): number {
    return this.#operations.number(word);
  }

  message(
    change: Change,
    commit: Commit,
    { id, originName }: { id: string; originName: string },
  ): Partial<ChangeMessage> {
    const common = { id, ...commitMessage(commit, originName) };
    switch (change.kind) {
      case 'heartbeat':
        return { ...common, operation: this.#operations.number('heartbeat') };
      case 'conflict':
        return {
          ...common,
          operation: this.#operations.number('conflict'),
          ...place(change),
          conflict: this.#conflictMessage(change.record),
        };
      case 'write': {
        const message: Partial<ChangeMessage> = {
          ...common,
          operation: this.#operations.number(change.version.deleted ? 'delete' : 'upsert'),
          ...place(change),
          version: versionMessage(change.version),
          losers: change.losers.map((record) => this.#conflictMessage(record)),
        };
        if (change.row !== null) message.row = { columns: columnMessages(change.row) };
        if (change.seen !== null) message.seen = { counters: change.seen };
        if (change.requests.length > 0) message.requests = change.requests.map(requestMessage);
        return message;
      }
      default:
        return unreachable(change);
    }
  }

  change(message: ChangeMessage): DecodedChange {
    return {
      origin: message.originNumber as NodeNumber,
      originName: message.origin,
      commitTimeMs: numberOf(message.commitTimeUs) / 1000,
      commitLsn: BigInt.asUintN(64, bigintOf(message.commitLsn)),
      change: this.#changeOf(message),
    };
  }

  #changeOf(message: ChangeMessage): Change {
    const operation = this.#operations.word(message.operation);
    switch (operation) {
      case 'heartbeat':
        return { kind: 'heartbeat' };
      case 'conflict':
        return {
          kind: 'conflict',
          ...placeOf(message),
          record: this.#record(present(message.conflict, 'conflict')),
        };
      case 'upsert':
      case 'delete':
        return {
          kind: 'write',
          ...placeOf(message),
          version: versionOf(present(message.version, 'version')),
          row: message.row ? this.#row(message.collection, message.row.columns ?? []) : null,
          seen: message.seen ? clockOf(message.seen) : null,
          losers: message.losers.map((record) => this.#record(record)),
          requests: message.requests.map(requestOf),
        };
      default:
        return unreachable(operation);
    }
  }

  #row(collection: string, columns: readonly ColumnMessage[]): RowImage {
    let table = this.#tables.get(collection);
    if (table === undefined || !describes(table, columns)) {
      table = {
        collection,
        columns: columns.map(({ name, type, key }): ColumnImage => ({ name, type, isKey: key })),
      };
      this.#tables.set(collection, table);
    }
    return { table, values: columns.map(valueOf) };
  }

  #conflictMessage(record: ConflictRecord): ConflictMessage {
    const message: ConflictMessage = {
      id: record.id,
      ...place(record),
      kind: this.#kinds.number(record.kind),
      loser: versionMessage(record.loser),
      winner: { origin: record.winner.dot.origin, counter: record.winner.dot.counter },
      winnerHlc: int64(record.winner.hlc),
      state: this.#states.number(record.state),
      stateHlc: int64(record.stateHlc),
      stateOrigin: record.stateOrigin,
      decidedBy: record.decidedBy,
      reason: record.reason,
    };
    if (record.row !== null) message.rowJson = record.row;
    return message;
  }

  #record(message: ConflictMessage): ConflictRecord {
    const winner = present(message.winner, 'winner');
    return {
      id: message.id,
      ...placeOf(message),
      kind: this.#kinds.word(message.kind),
      loser: versionOf(present(message.loser, 'loser')),
      row: ownText(message, 'rowJson'),
      winner: {
        dot: { origin: winner.origin as NodeNumber, counter: numberOf(winner.counter) },
        hlc: bigintOf(message.winnerHlc) as HlcValue,
      },
      state: this.#states.word(message.state),
      stateHlc: bigintOf(message.stateHlc) as HlcValue,
      stateOrigin: message.stateOrigin as NodeNumber,
      decidedBy: message.decidedBy,
      reason: message.reason,
    };
  }
}

// --- the parts ---

export const commitMessage = (commit: Commit, originName: string) => ({
  origin: originName,
  originNumber: commit.origin,
  commitTimeUs: Math.round(commit.commitTimeMs * 1000),
  commitLsn: int64(commit.commitLsn),
});

interface Place {
  readonly collection: string;
  readonly key: readonly string[];
  readonly shard: number;
}

const place = ({ collection, key, shard }: Place): { collection: string; key: string[]; shard: number } => ({
  collection,
  key: key as string[],
  shard,
});
const placeOf = ({ collection, key, shard }: Place) => ({ collection, key, shard: shard as ShardNumber });

function versionMessage(version: Version): VersionMessage {
  const message: VersionMessage = {
    rank: version.rank,
    epoch: int64(version.epoch),
    hlc: int64(version.hlc),
    origin: version.dot.origin,
    counter: version.dot.counter,
    clock: { counters: version.clock },
    deleted: version.deleted,
  };
  if (version.request !== null) message.request = version.request;
  if (version.crdt !== null && version.crdt !== undefined) message.crdtJson = JSON.stringify(version.crdt);
  return message;
}

function versionOf(message: VersionMessage): Version {
  const crdt = ownText(message, 'crdtJson');
  return {
    rank: message.rank,
    epoch: bigintOf(message.epoch) as Epoch,
    hlc: bigintOf(message.hlc) as HlcValue,
    dot: { origin: message.origin as NodeNumber, counter: numberOf(message.counter) },
    clock: clockOf(message.clock ?? {}),
    deleted: message.deleted,
    request: ownText(message, 'request'),
    crdt: crdt === null ? null : (JSON.parse(crdt) as CrdtState),
  };
}

function requestMessage({ request, dot, hlc, clock }: RememberedRequest): RequestMessage {
  const message: RequestMessage = { request, origin: dot.origin, counter: dot.counter, hlc: int64(hlc) };
  if (clock !== undefined) message.clock = { counters: clock };
  return message;
}

const requestOf = ({ request, origin, counter, hlc, clock }: RequestMessage): RememberedRequest => ({
  request,
  dot: { origin: origin as NodeNumber, counter: numberOf(counter) },
  hlc: bigintOf(hlc) as HlcValue,
  ...(clock ? { clock: clockOf(clock) } : {}),
});

function clockOf({ counters }: ClockMessage): Clock {
  const clock: Record<string, number> = {};
  for (const node in counters) clock[node] = numberOf(counters[node]!);
  return clock;
}

function columnMessages({ table, values }: RowImage): ColumnMessage[] {
  return table.columns.map(({ name, type, isKey }, at) => ({
    name,
    type,
    key: isKey,
    value: toForm(type, values[at] ?? null),
  }));
}

function describes(table: TableImage, columns: readonly ColumnMessage[]): boolean {
  if (table.columns.length !== columns.length) return false;
  return table.columns.every((column, at) => {
    const found = columns[at]!;
    return column.name === found.name && column.type === found.type && column.isKey === found.key;
  });
}

function valueOf({ name, type, value }: ColumnMessage): Buffer | null {
  const binary = value ? toBinary(type, value) : undefined;
  if (binary === undefined)
    throw new PgquorumError(
      'not_supported',
      `the column ${name} of type ${type} in a change log message has a form that this version does not know`,
    );
  return binary;
}

/** An optional text: protobufjs keeps the default of an absent one on the prototype. */
function ownText<K extends string>(message: { [P in K]?: string | null }, name: K): string | null {
  return Object.prototype.hasOwnProperty.call(message, name) ? (message[name] ?? null) : null;
}

function present<T>(part: T | null | undefined, name: string): T {
  if (part === null || part === undefined)
    throw new PgquorumError('invariant_broken', `a change log message has no ${name}`);
  return part;
}

// --- 64 bits ---

const int64 = (value: bigint): Int64 => ({
  low: Number(BigInt.asIntN(32, value)),
  high: Number(BigInt.asIntN(32, value >> 32n)),
  unsigned: false,
});

/** As a signed integer. */
const bigintOf = (value: Integer): bigint =>
  typeof value === 'number' ? BigInt(value) : (BigInt(value.high | 0) << 32n) | BigInt(value.low >>> 0);

/** Counters and times stay below 2^53. */
const numberOf = (value: Integer): number =>
  typeof value === 'number' ? value : value.high * 2 ** 32 + (value.low >>> 0);
