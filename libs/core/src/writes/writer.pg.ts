/**
 * Writes at ONE: each key goes to the first live node of its shard, one transaction per node. A node that fails hands its keys to the next one in
 * their shards' order. That is safe even when its commit may stand: both writes carry one request id and merge as one.
 */
import { randomUUID } from 'node:crypto';
import { sentAs } from '../collections/definition.ts';
import { staleMapTries, type CollectionDirectory } from '../collections/directory.pg.ts';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
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
import type { ShardNumber } from '../versioning/version.ts';
import { recallRequest } from './idempotency.pg.ts';
import type { ParsedItem, WriteItem } from './item.ts';
import { bodyHash, requestIdOf } from './request-id.ts';
import {
  deleteOn,
  holdingOf,
  upsertOn,
  type CommitProgress,
  type Holding,
  type NodeOutcome,
  type RecordedKey,
  type RequestIdentity,
  type WrittenKey,
} from './transaction.pg.ts';

const transientTries = 5;

export interface WriteContext {
  readonly collection: CollectionRow;
  readonly deadline: Deadline;
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
    }
  | { readonly id: string | null; readonly error: PgquorumError };

interface KeyItem {
  readonly id: string;
  readonly shard: ShardNumber;
}

interface Group<T> {
  readonly node: Node;
  readonly items: readonly T[];
}

type OnNode<T> = (
  client: Parameters<Parameters<Node['run']>[1]>[0],
  node: Node,
  items: readonly T[],
  progress: CommitProgress,
  holding: Holding | null,
) => Promise<NodeOutcome>;

export class Writer {
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;
  readonly #directory: CollectionDirectory;

  constructor(options: {
    readonly nodes: Nodes;
    readonly placement: ShardPlacement;
    readonly directory: CollectionDirectory;
  }) {
    this.#nodes = options.nodes;
    this.#placement = options.placement;
    this.#directory = options.directory;
  }

  upsert(context: WriteContext, parsed: readonly ParsedItem<WriteItem>[]): Promise<ItemResult[]> {
    const { table, definition } = context.collection;
    const request = identify(context);
    return this.#write(context, request, parsed, async (client, node, items, progress, holding) => {
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
        holding,
      });
    });
  }

  remove(context: WriteContext, parsed: readonly ParsedItem<KeyItem>[]): Promise<ItemResult[]> {
    const { table } = context.collection;
    const request = identify(context);
    return this.#write(context, request, parsed, (client, _node, items, progress, holding) =>
      deleteOn({
        client,
        table,
        request,
        keys: items.map((item) => item.id),
        timeoutMs: remainingMs(context.deadline),
        progress,
        holding,
      }),
    );
  }

  async #write<T extends KeyItem>(
    context: WriteContext,
    request: RequestIdentity,
    parsed: readonly ParsedItem<T>[],
    onNode: OnNode<T>,
  ): Promise<ItemResult[]> {
    const items = parsed.flatMap((one) => (one.ok ? [one.item] : []));
    const results = new Map<string, ItemResult>();
    if (request.bodyHash !== null && items.length > 0) {
      const recorded = await recallRequest({
        nodes: homesOf(request, context.collection, this.#nodes, this.#placement),
        table: context.collection.table,
        request,
        keys: items.map((item) => item.id),
        deadline: context.deadline,
      });
      for (const item of items)
        if (recorded.has(item.id)) results.set(item.id, this.#recordedResult(item, recorded.get(item.id)!));
    }
    const attempt = new Attempt(
      items.filter((item) => !results.has(item.id)),
      (item, tried) => this.#nextNode(current, item, tried),
    );
    let current = context;
    for (let groups = attempt.groups(); groups.length > 0; groups = attempt.groups()) {
      const now = current;
      await Promise.all(groups.map((group) => this.#writeGroup(now, group, attempt, results, onNode)));
      if (attempt.isStale()) {
        const { collection, deadline } = context;
        current = { ...current, collection: await this.#directory.refreshSoon(collection.name, deadline) };
      }
    }
    for (const item of attempt.leftOver)
      results.set(item.id, { id: item.id, error: attempt.outcomeOf(item) });
    return parsed.map((one) => (one.ok ? results.get(one.item.id)! : { id: one.id, error: one.error }));
  }

  async #writeGroup<T extends KeyItem>(
    context: WriteContext,
    group: Group<T>,
    attempt: Attempt<T>,
    results: Map<string, ItemResult>,
    onNode: OnNode<T>,
  ): Promise<void> {
    const { node, items } = group;
    const progress: CommitProgress = { commitSent: false };
    try {
      const outcome = await retryTransient(() =>
        node.run(context.deadline, (client) =>
          onNode(client, node, items, progress, holdingOf(context.collection, items)),
        ),
      );
      for (const item of items)
        results.set(item.id, this.#resultOf(item, node, outcome, attempt.standsPerhaps(item)));
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
      for (const item of items) results.set(item.id, { id: item.id, error: shown() });
    }
  }

  #nextNode(context: WriteContext, item: KeyItem, tried: ReadonlySet<Node>): Node | undefined {
    const names = this.#placement.replicasOf(context.collection, item.shard);
    return this.#nodes.inOrder(names, context.coordinator).find((node) => !tried.has(node));
  }

  #resultOf(
    item: KeyItem,
    node: Node,
    { written, recorded, refused }: NodeOutcome,
    standsPerhaps: boolean,
  ): ItemResult {
    const row = written.get(item.id);
    if (row !== undefined) return this.#writtenResult(item, node, row);
    const before = recorded.get(item.id);
    if (before !== undefined) return this.#recordedResult(item, before);
    const refusal = refused?.get(item.id);
    if (refusal !== undefined) return { id: item.id, error: standsPerhaps ? outcomeUnknown() : refusal };
    // An earlier try on another node may be why there is nothing left to delete.
    return {
      id: item.id,
      error: standsPerhaps
        ? outcomeUnknown()
        : new PgquorumError('vector_not_found', 'there was nothing to delete'),
    };
  }

  #writtenResult(item: KeyItem, node: Node, row: WrittenKey): ItemResult {
    return {
      id: item.id,
      shard: item.shard,
      version: versionView(row, (number) => this.#nodes.nameOf(number)),
      coordinator: node.name,
      acks: [node.name],
    };
  }

  #recordedResult(item: KeyItem, row: RecordedKey): ItemResult {
    const origin = this.#nodes.nameOf(row.origin);
    const version = {
      text: versionText(row.origin, row.counter),
      origin,
      counter: row.counter,
      hlc: row.hlc,
      clock: row.clock === null ? null : clockView(row.clock),
    };
    return { id: item.id, shard: item.shard, version, coordinator: origin, acks: [origin] };
  }
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

export const outcomeUnknown = (): PgquorumError =>
  new PgquorumError(
    'write_outcome_unknown',
    'the connection was lost after the commit was sent, and no other node could take the write',
  );

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

/** Which items are still to be written, where they have been tried, and whether a commit of theirs may stand. */
class Attempt<T extends KeyItem> {
  readonly #next: (item: T, tried: ReadonlySet<Node>) => Node | undefined;
  readonly #tried = new Map<T, Set<Node>>();
  readonly #mayStand = new Set<T>();
  #staleTries = 0;
  #stale = false;
  #pending: readonly T[];
  readonly leftOver: T[] = [];

  constructor(items: readonly T[], next: (item: T, tried: ReadonlySet<Node>) => Node | undefined) {
    this.#pending = items;
    this.#next = next;
  }

  /** The items to write now, by node. */
  groups(): Group<T>[] {
    const byNode = new Map<Node, T[]>();
    for (const item of this.#pending) {
      const node = this.#next(item, this.#tried.get(item) ?? new Set());
      if (node === undefined) this.leftOver.push(item);
      else if (byNode.has(node)) byNode.get(node)!.push(item);
      else byNode.set(node, [item]);
    }
    this.#pending = [];
    return [...byNode].map(([node, items]) => ({ node, items }));
  }

  again(items: readonly T[], failed: Node): void {
    for (const item of items) this.#tried.set(item, (this.#tried.get(item) ?? new Set()).add(failed));
    this.#pending = [...this.#pending, ...items];
  }

  /** On the same nodes, if they still are the ones. False when that was tried often enough. */
  againByNewMap(items: readonly T[]): boolean {
    if (!this.#stale) this.#staleTries += 1;
    if (this.#staleTries > staleMapTries) return false;
    this.#stale = true;
    this.#pending = [...this.#pending, ...items];
    return true;
  }

  /** Has a node refused the map since this was asked? */
  isStale(): boolean {
    const stale = this.#stale;
    this.#stale = false;
    return stale;
  }

  mayStand(items: readonly T[]): void {
    for (const item of items) this.#mayStand.add(item);
  }

  standsPerhaps(item: T): boolean {
    return this.#mayStand.has(item);
  }

  outcomeOf(item: T): PgquorumError {
    return this.#mayStand.has(item)
      ? outcomeUnknown()
      : new PgquorumError('replicas_unavailable', 'no node of the shard can be written');
  }
}
