/**
 * Writes: each key goes to the first live node of its shard, one transaction per node. A node that fails hands its keys to the next one in
 * their shards' order. That is safe even when its commit may stand: both writes carry one request id and merge as one. Beyond ONE, what was committed goes on to the
 * other replicas (strengthen.pg.ts).
 */
import { randomUUID } from 'node:crypto';
import { sentAs } from '../collections/definition.ts';
import type { CollectionDirectory } from '../collections/directory.pg.ts';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import {
  isLaterModel,
  isStaleDefinition,
  isStaleMap,
  isTransient,
  requestError,
} from '../postgres/request-error.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import type { ShardPlacement } from '../topology/shard-placement.ts';
import { clockView, versionText, versionView, type VersionView } from '../versioning/version-view.ts';
import type { Dot, NodeNumber, ShardNumber } from '../versioning/version.ts';
import type { Consistency } from './levels.ts';
import {
  notMet,
  type Done,
  type StrengthenContext,
  type Strength,
  type Strengthener,
} from './strengthen.pg.ts';
import { Attempt, outcomeUnknown, type Group } from './attempt.pg.ts';
import { encodeToken, tokenWritesMax, type TokenPosition } from './token.ts';
import { recallRequest } from './idempotency.pg.ts';
import type { KeyItem, ParsedItem, WriteItem } from './item.ts';
import { bodyHash, requestIdOf } from './request-id.ts';
import {
  deleteOn,
  upsertOn,
  type CommitProgress,
  type NodeOutcome,
  type RecordedKey,
  type RequestIdentity,
  type TransactionOptions,
  type WrittenKey,
} from './transaction.pg.ts';

const transientTries = 5;

export interface WriteContext extends StrengthenContext {
  /** Names of nodes that are known to have a vector that its primary has not. */
  readonly preferred?: ReadonlyMap<string, string>;
  readonly coordinator: 'primary' | 'nearest';
  /** With an idempotency key: who asked, and the body that was sent. */
  readonly keyed: {
    readonly principal: string;
    readonly idempotencyKey: string;
    readonly verb: string;
    readonly body: string | Uint8Array;
  } | null;
}

export type ItemResult =
  | {
      readonly id: string;
      readonly shard: ShardNumber;
      readonly version: VersionView;
      /** The dot of what a patch did to CRDT fields; the row's version is another. */
      readonly operation?: { readonly origin: string; readonly counter: string };
      readonly coordinator: string;
      readonly acks: readonly string[];
      /** The level that was reached, where that is less than was asked for. */
      readonly reached?: Consistency;
    }
  | { readonly id: string | null; readonly error: PgquorumError };

type OnNode<T> = (
  client: Parameters<Parameters<Node['run']>[1]>[0],
  node: Node,
  items: readonly T[],
  progress: CommitProgress,
  believed: Pick<TransactionOptions, 'holding' | 'members'>,
) => Promise<NodeOutcome>;

/** What became of the items of a request. */
interface Outcomes {
  /** How far the logs of the nodes that wrote go, by their numbers; only where the items are too many to name. */
  readonly positions: Map<number, TokenPosition> | null;
  readonly results: Map<string, ItemResult>;
  readonly done: Map<string, Done>;
}

export interface WriterParts {
  readonly nodes: Nodes;
  readonly placement: ShardPlacement;
  readonly directory: CollectionDirectory;
  readonly strengthener: Strengthener;
}

export interface WriteResults {
  readonly results: ItemResult[];
  /** What a read has to send to see all of it. */
  readonly token: string | null;
}

export class Writer {
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;
  readonly #directory: CollectionDirectory;
  readonly #strengthener: Strengthener;

  constructor(options: WriterParts) {
    this.#nodes = options.nodes;
    this.#placement = options.placement;
    this.#directory = options.directory;
    this.#strengthener = options.strengthener;
  }

  upsert(context: WriteContext, parsed: readonly ParsedItem<WriteItem>[]): Promise<WriteResults> {
    const { table, definition } = context.collection;
    const request = identify(context);
    return this.#write(context, request, parsed, async (client, node, items, progress, believed) => {
      const vectorOid = await node.vectorOid(sentAs[definition.vectorType]);
      return upsertOn({
        client,
        table,
        request,
        items,
        vectorOid,
        vectorType: definition.vectorType,
        models: definition.conflicts.models,
        timeoutMs: remainingMs(context.deadline),
        progress,
        ...believed,
      });
    });
  }

  remove(context: WriteContext, parsed: readonly ParsedItem<KeyItem>[]): Promise<WriteResults> {
    const { table } = context.collection;
    const request = identify(context);
    return this.#write(context, request, parsed, (client, _node, items, progress, believed) =>
      deleteOn({
        client,
        table,
        request,
        keys: items.map((item) => item.id),
        timeoutMs: remainingMs(context.deadline),
        progress,
        ...believed,
      }),
    );
  }

  async #write<T extends KeyItem>(
    context: WriteContext,
    request: RequestIdentity,
    parsed: readonly ParsedItem<T>[],
    onNode: OnNode<T>,
  ): Promise<WriteResults> {
    const items = parsed.flatMap((one) => (one.ok ? [one.item] : []));
    const outcomes: Outcomes = {
      results: new Map(),
      done: new Map(),
      positions: items.length > tokenWritesMax ? new Map() : null,
    };
    const { results, done, positions } = outcomes;
    for (const item of items) {
      const error = this.#strengthener.lacking(context, item.shard);
      if (error !== null) results.set(item.id, { id: item.id, error });
    }
    const possible = items.filter((item) => !results.has(item.id));
    if (request.bodyHash !== null && possible.length > 0) {
      const recorded = await recallRequest({
        nodes: homesOf(request, context.collection, this.#nodes, this.#placement),
        table: context.collection.table,
        request,
        keys: possible.map((item) => item.id),
        deadline: context.deadline,
      });
      for (const item of possible)
        if (recorded.has(item.id)) this.#noteRecorded(outcomes, item, recorded.get(item.id)!);
    }
    const attempt = new Attempt(
      possible.filter((item) => !results.has(item.id)),
      (item, tried) => this.#nextNode(current, item, tried),
    );
    let current = context;
    for (let groups = attempt.groups(); groups.length > 0; groups = attempt.groups()) {
      const now = current;
      await Promise.all(groups.map((group) => this.#writeGroup(now, group, attempt, outcomes, onNode)));
      if (!attempt.isStale()) continue;
      const newer = await this.#strengthener.lookAgain(context).catch((cause: unknown) => {
        for (const item of attempt.giveUp())
          results.set(item.id, { id: item.id, error: attempt.outcomeOf(item, cause) });
        return context.collection; // nothing is written by it any more
      });
      current = { ...current, collection: newer };
    }
    for (const item of attempt.leftOver)
      results.set(item.id, { id: item.id, error: attempt.outcomeOf(item) });
    for (const [id, strength] of await this.#strengthener.strengthen(current, [...done.values()]))
      results.set(id, strengthened(context, results.get(id) as Written, strength));
    return {
      results: parsed.map((one) => (one.ok ? results.get(one.item.id)! : { id: one.id, error: one.error })),
      token: tokenOf(context, [...done.values()], positions),
    };
  }

  async #writeGroup<T extends KeyItem>(
    context: WriteContext,
    group: Group<T>,
    attempt: Attempt<T>,
    outcomes: Outcomes,
    onNode: OnNode<T>,
  ): Promise<void> {
    const { node, items } = group;
    const progress: CommitProgress = { commitSent: false };
    try {
      const outcome = await retryTransient(() =>
        node.run(context.deadline, (client) =>
          onNode(client, node, items, progress, this.#strengthener.believedBy(context, items)),
        ),
      );
      if (outcomes.positions !== null) await notePosition(context, node, outcomes.positions);
      for (const item of items)
        this.#noteOutcome(outcomes, { item, node, outcome, standsPerhaps: attempt.standsPerhaps(item) });
    } catch (cause) {
      if (progress.commitSent) attempt.mayStand(items);
      if (isNodeFailure(cause)) return attempt.again(items, node);
      if (isStaleMap(cause) && attempt.againByNewMap(items)) return;
      if (isStaleDefinition(cause)) this.#directory.forget(context.collection.name);
      const known = requestError(cause, context.collection.name);
      // Other nodes may have written their items: the error stays with these.
      const error =
        known instanceof PgquorumError
          ? known
          : new PgquorumError('internal', `the write failed on node ${node.name}`, { cause });
      const shown = progress.commitSent && error.code === 'timeout' ? outcomeUnknown : () => error;
      for (const item of items) outcomes.results.set(item.id, { id: item.id, error: shown() });
    }
  }

  #nextNode(context: WriteContext, item: KeyItem, tried: ReadonlySet<Node>): Node | undefined {
    const order = writeOrder(context, item, this.#nodes, this.#placement);
    return order.find((node) => !tried.has(node));
  }

  #noteOutcome(
    outcomes: Outcomes,
    about: {
      readonly item: KeyItem;
      readonly node: Node;
      readonly outcome: NodeOutcome;
      readonly standsPerhaps: boolean;
    },
  ): void {
    const { item, node, standsPerhaps } = about;
    const { written, recorded, refused } = about.outcome;
    const row = written.get(item.id);
    if (row !== undefined) return this.#noteWritten(outcomes, item, node, row);
    const before = recorded.get(item.id);
    if (before !== undefined) return this.#noteRecorded(outcomes, item, before);
    // An earlier try on another node may be why there is nothing left to delete.
    const error =
      refused?.get(item.id) ?? new PgquorumError('vector_not_found', 'there was nothing to delete');
    outcomes.results.set(item.id, { id: item.id, error: standsPerhaps ? outcomeUnknown() : error });
  }

  #noteWritten({ results, done }: Outcomes, { id, shard }: KeyItem, node: Node, row: WrittenKey): void {
    results.set(id, {
      id,
      shard,
      version: versionView(row, (number) => this.#nodes.nameOf(number)),
      coordinator: node.name,
      acks: [node.name],
    });
    done.set(id, { id, shard, dots: [dotOf(row)], coordinator: node.name, fresh: true });
  }

  #noteRecorded({ results, done }: Outcomes, { id, shard }: KeyItem, row: RecordedKey): void {
    const origin = this.#nodes.nameOf(row.origin);
    const version = {
      text: versionText(row.origin, row.counter),
      origin,
      counter: row.counter,
      hlc: row.hlc,
      clock: row.clock === null ? null : clockView(row.clock),
    };
    results.set(id, { id, shard, version, coordinator: origin, acks: [origin] });
    done.set(id, { id, shard, dots: [dotOf(row)], coordinator: origin, fresh: false });
  }
}

/** After the commit, so that it is before it in the log. */
async function notePosition(
  { deadline }: WriteContext,
  node: Node,
  positions: Map<number, TokenPosition>,
): Promise<void> {
  const found = node.run(deadline, (client) =>
    client.query<{ number: number; position: string; at_ms: string }>(
      `select n.number, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint::text as position, ceil(extract(epoch from clock_timestamp()) * 1000)::bigint::text as at_ms from pgquorum.node n`,
    ),
  );
  const row = (await found.catch(() => null))?.rows[0]; // what was written stands without it, and there is no token
  if (row === undefined) return;
  const { number, position, at_ms: atMs } = row;
  positions.set(number, { origin: number as NodeNumber, position, atMs: Number(atMs) });
}

/** Null when there is nothing to name, or not all of it could be found out. */
function tokenOf(
  { collection: { name: collection } }: WriteContext,
  done: readonly Done[],
  positions: ReadonlyMap<number, TokenPosition> | null,
): string | null {
  if (done.length === 0) return null;
  if (positions === null)
    return encodeToken({
      collection,
      // In one order, whichever node was first: a repeat gets the answer of the first.
      writes: done
        .flatMap(({ id, dots }) => dots.map((dot) => ({ id, dot })))
        .toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)),
      positions: [],
    });
  const known = done.every(({ dots }) => dots.every(({ origin }) => positions.has(origin)));
  return known ? encodeToken({ collection, writes: [], positions: [...positions.values()] }) : null;
}

type Written = Exclude<ItemResult, { readonly error: PgquorumError }>;

export const dotOf = ({ origin, counter }: { readonly origin: number; readonly counter: string }): Dot => ({
  origin: origin as NodeNumber,
  counter: Number(counter),
});

/** The result with who has it, or what is to be said where too few have it. */
export function strengthened<T extends Written>(
  { level, onTimeout, keyed }: Pick<WriteContext, 'level' | 'onTimeout' | 'keyed'>,
  result: T,
  { acks, met, reached, required }: Strength,
  repeatable = true,
): T | { readonly id: string; readonly error: PgquorumError } {
  if (met) return { ...result, acks };
  if (onTimeout === 'degrade') return { ...result, acks, reached };
  const { id, version } = result;
  const retrySafe = repeatable || keyed !== null;
  return { id, error: notMet(level, { id, version, acks, required, stands: true, retrySafe }) };
}

/** The nodes that may take a write, the coordinator first. */
export function writeOrder(
  { collection, coordinator, preferred }: WriteContext,
  { id, shard }: KeyItem,
  nodes: Nodes,
  placement: ShardPlacement,
): Node[] {
  const order = nodes.inOrder(placement.replicasOf(collection, shard), coordinator);
  const name = preferred?.get(id);
  const first = order.filter((node) => node.name === name && node.isUp);
  return [...first, ...order.filter((node) => !first.includes(node))];
}

/** Every process chooses the same home for a request. */
export function homesOf(
  request: RequestIdentity,
  { name, table }: CollectionRow,
  nodes: Nodes,
  placement: ShardPlacement,
): Node[] {
  const shard = Number.parseInt(request.id.slice(0, 8), 16) % table.shards;
  return nodes.inOrder(placement.nodesOf(name, shard as ShardNumber));
}

export function identify(context: WriteContext): RequestIdentity {
  const { keyed, collection } = context;
  if (keyed === null) return { id: randomUUID(), bodyHash: null };
  return {
    id: requestIdOf({
      principal: keyed.principal,
      collection: collection.name,
      idempotencyKey: keyed.idempotencyKey,
    }),
    bodyHash: bodyHash(keyed.verb, keyed.body),
  };
}

/** A deadlock with another writer, or a later model that came in between: the whole transaction again, nothing of it was kept. */
export async function retryTransient<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (cause) {
      if (!(isTransient(cause) || isLaterModel(cause)) || tries === transientTries) throw cause;
    }
  }
}
