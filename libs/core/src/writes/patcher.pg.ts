/**
 * Patches: on the first live node of the vector's shard, on the next one when it fails. A commit that may stand is done again under the same
 * request id and merges with it as one write; operations on CRDT fields only when the caller gave an idempotency key, since otherwise they would count twice.
 */
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { staleMapTries } from '../collections/directory.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { isStaleDefinition, isStaleMap, requestError } from '../postgres/request-error.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import type { ShardPlacement } from '../topology/shard-placement.ts';
import {
  clockView,
  versionText,
  versionView,
  type VersionColumns,
  type VersionView,
} from '../versioning/version-view.ts';
import { outcomeUnknown } from './attempt.pg.ts';
import { askAboutRequest } from './idempotency.pg.ts';
import { patchesRow, type PatchItem } from './patch-item.ts';
import {
  patchOn,
  patchRecords,
  type DotColumns,
  type PatchOutcome,
  type PatchRecord,
} from './patch-transaction.pg.ts';
import type { Strengthener } from './strengthen.pg.ts';
import { encodeToken } from './token.ts';
import type { CommitProgress, RequestIdentity } from './transaction.pg.ts';
import {
  dotOf,
  homesOf,
  identify,
  retryTransient,
  strengthened,
  writeOrder,
  type ItemResult,
  type WriteContext,
  type WriterParts,
} from './writer.pg.ts';

type Patched = Exclude<ItemResult, { error: unknown }>;
export type PatchResult = Patched & { readonly token: string };

export class Patcher {
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;
  readonly #strengthener: Strengthener;

  constructor(options: Omit<WriterParts, 'directory'>) {
    this.#nodes = options.nodes;
    this.#placement = options.placement;
    this.#strengthener = options.strengthener;
  }

  async patch(context: WriteContext, item: PatchItem): Promise<PatchResult> {
    const request = identify(context);
    const lacking = this.#strengthener.lacking(context, item.shard);
    if (lacking !== null) throw lacking;
    if (request.bodyHash !== null) {
      const { collection, deadline } = context;
      const records = await askAboutRequest({
        nodes: homesOf(request, collection, this.#nodes, this.#placement),
        request,
        deadline,
        read: (client) => patchRecords(client, collection.table, { request: request.id, key: item.id }),
      });
      if (records.length > 0)
        return this.#strengthened(context, item, this.#recorded(item, records), records);
    }
    const { outcome, node, collection } = await this.#onSomeNode(context, item, request);
    if (outcome.kind === 'recorded')
      return this.#strengthened(context, item, this.#recorded(item, outcome.records), outcome.records);
    const result = this.#result(item, {
      version: versionView(outcome.version, (number) => this.#nodes.nameOf(number)),
      operation: outcome.operation,
      coordinator: node.name,
    });
    // The version of a row that only its fields were changed of is of an earlier write.
    const dots = [
      ...(outcome.operation === null || patchesRow(item) ? [outcome.version] : []),
      ...(outcome.operation === null ? [] : [outcome.operation]),
    ];
    return this.#strengthened({ ...context, collection }, item, result, dots, true);
  }

  async #strengthened(
    context: WriteContext,
    item: PatchItem,
    result: Patched,
    dots: readonly DotColumns[],
    fresh = false,
  ): Promise<PatchResult> {
    const { id, shard, coordinator } = result;
    const strengths = await this.#strengthener.strengthen(context, [
      { id, shard, dots: dots.map(dotOf), coordinator, fresh },
    ]);
    const strong = strengthened(context, result, strengths.get(id)!, item.operations === null);
    if ('error' in strong) throw strong.error;
    const token = encodeToken({
      collection: context.collection.name,
      writes: dots.map((dot) => ({ id, dot: dotOf(dot) })),
      positions: [],
    });
    return { ...strong, token };
  }

  async #onSomeNode(
    context: WriteContext,
    item: PatchItem,
    request: RequestIdentity,
  ): Promise<{ outcome: PatchOutcome; node: Node; collection: CollectionRow }> {
    const tried = new Set<Node>();
    let mayStand = false;
    let current = context;
    for (let staleTries = 0; ;) {
      const order = writeOrder(current, item, this.#nodes, this.#placement);
      const node = order.find((one) => !tried.has(one));
      if (node === undefined)
        throw mayStand
          ? outcomeUnknown()
          : new PgquorumError('replicas_unavailable', 'no node of the shard can be written');
      tried.add(node);
      const progress: CommitProgress = { commitSent: false };
      try {
        const mayRepeat = mayStand || request.bodyHash !== null;
        const outcome = await this.#onNode(node, current, { item, request, progress, mayRepeat });
        return { outcome, node, collection: current.collection };
      } catch (cause) {
        mayStand ||= progress.commitSent;
        const countsTwice = mayStand && item.operations !== null && request.bodyHash === null;
        if (isNodeFailure(cause) && !countsTwice) continue;
        if (isStaleMap(cause) && staleTries < staleMapTries) {
          staleTries += 1;
          tried.delete(node);
          current = { ...context, collection: await this.#newer(context, mayStand) };
          continue;
        }
        if (isStaleDefinition(cause)) this.#strengthener.forget(context.collection.name);
        // An earlier try that may stand may also be why this node refuses.
        throw mayStand ? outcomeUnknown() : requestError(cause, context.collection.name);
      }
    }
  }

  /** The collection as it is now. */
  async #newer(context: WriteContext, mayStand: boolean): Promise<CollectionRow> {
    try {
      return await this.#strengthener.lookAgain(context);
    } catch (cause) {
      throw mayStand ? outcomeUnknown() : cause;
    }
  }

  #onNode(
    node: Node,
    context: WriteContext,
    attempt: {
      readonly item: PatchItem;
      readonly request: RequestIdentity;
      readonly progress: CommitProgress;
      readonly mayRepeat: boolean;
    },
  ): Promise<PatchOutcome> {
    const { collection, deadline } = context;
    const { table, definition } = collection;
    return retryTransient(() =>
      node.run(deadline, (client) =>
        patchOn({
          client,
          table,
          vectorType: definition.vectorType,
          models: definition.conflicts.models,
          timeoutMs: remainingMs(deadline),
          ...this.#strengthener.believedBy(context, [attempt.item]),
          ...attempt,
        }),
      ),
    );
  }

  /** What the first one of the repeated requests did. Its version is whole only while it still is the row's. */
  #recorded(item: PatchItem, records: readonly PatchRecord[]): Patched {
    const rows = records.filter((record) => !record.operation);
    const row = rows.find((record) => isNow(record, record.now)) ?? rows[0] ?? null;
    const operation = records.find((record) => record.operation) ?? null;
    const now = row === null ? latest(records) : isNow(row, row.now) ? row.now : null;
    const dot = now ?? row ?? records[0]!;
    const version: VersionView = {
      text: versionText(dot.origin, dot.counter),
      origin: this.#nodes.nameOf(dot.origin),
      counter: dot.counter,
      hlc: now?.hlc ?? null,
      clock: now === null ? null : clockView(now.clock),
    };
    const coordinator = this.#nodes.nameOf((row ?? operation ?? dot).origin);
    return this.#result(item, { version, operation, coordinator });
  }

  #result(
    { id, shard }: PatchItem,
    done: { version: VersionView; operation: DotColumns | null; coordinator: string },
  ): Patched {
    const { version, operation, coordinator } = done;
    return {
      id,
      shard,
      version,
      ...(operation === null
        ? {}
        : { operation: { origin: this.#nodes.nameOf(operation.origin), counter: operation.counter } }),
      coordinator,
      acks: [coordinator],
    };
  }
}

const isNow = (dot: DotColumns, now: VersionColumns | null): boolean =>
  now !== null && now.origin === dot.origin && now.counter === dot.counter;

/** The latest version of the row that any of the nodes has. */
const latest = (records: readonly PatchRecord[]): VersionColumns | null =>
  records
    .flatMap(({ now }) => now ?? [])
    .reduce<VersionColumns | null>(
      (best, now) => (best === null || BigInt(now.hlc) > BigInt(best.hlc) ? now : best),
      null,
    );
