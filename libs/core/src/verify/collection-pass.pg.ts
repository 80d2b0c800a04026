/**
 * One comparison of a collection on all nodes that can be reached: digests of all shards in one pass over each version table, then the differing buckets key by key in
 * bounded pages, then a second look once nothing that was committed by the first one can still be on its way, then repair. Reads only, but for the repair.
 */
import type { KeyTexts } from '../changelog/change.ts';
import { keyText } from '../changelog/change.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Logger } from '../observability/logger.process.ts';
import { isUnreachable } from '../postgres/sqlstate.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { emptyClock, join, sameClock, type Clock } from '../versioning/clock.ts';
import { caughtUp, markNow } from './catch-up.pg.ts';
import { differenceOf, differingBuckets, judge, type BucketDigest, type KeyViews } from './compare.ts';
import { lookAt, repairKeys, type FoundDifference } from './repair.pg.ts';
import { addDifference, note, reportedViews, type Report } from './report.ts';
import type { Repair } from './request.ts';
import { VerifyNode, type Horizons } from './verify-node.pg.ts';

export interface PassOptions {
  readonly cluster: string;
  readonly collection: string;
  readonly deep: boolean;
  readonly repair: Repair;
  readonly nodes: readonly ClusterNode[];
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** How long changes may be on their way before a key is left as `inFlight`. */
  readonly catchUpMs?: number;
  readonly pageKeys?: number;
  /** A node that is compared though it joins the shards. */
  readonly joining?: string;
  /** With a repair: whether keys of which nothing can be said are merged too. */
  readonly mergeOpen?: boolean;
}

/** Keys that are written all the time are looked at so often. */
const roundsMax = 4;
const catchUpMsDefault = 30_000;
/** Once a node was found to lag in this pass. */
const laggingMs = 2000;

export class CollectionPass implements AsyncDisposable {
  readonly nodes: readonly VerifyNode[];
  /** Are all nodes of the cluster in it? */
  readonly complete: boolean;
  readonly #options: PassOptions;
  readonly #report: Report;
  readonly #close = (): void => void this[Symbol.asyncDispose]();
  #horizons: Horizons = new Map();
  /** Shards of which not all nodes have the same purge horizon. */
  readonly #uneven = new Set<number>();
  #digests: ReadonlyMap<string, readonly BucketDigest[]> = new Map();
  #differing: ReadonlyMap<number, readonly number[]> = new Map();
  #lagging = false;

  private constructor(options: PassOptions, nodes: readonly VerifyNode[], report: Report) {
    this.#options = options;
    this.nodes = nodes;
    this.complete = nodes.length === options.nodes.length && nodes.every((node) => !node.joining);
    this.#report = report;
    // A statement may take long: at an abort the connections go.
    options.signal.addEventListener('abort', this.#close, { once: true });
  }

  /** What it finds is added to `report`. Rejects when fewer than two nodes can be reached. */
  static async open(options: PassOptions, report: Report): Promise<CollectionPass> {
    options.signal.throwIfAborted();
    const opened = await Promise.allSettled(
      options.nodes.map((node) =>
        VerifyNode.open({ ...options, node, withJoining: node.name === options.joining }),
      ),
    );
    const nodes = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const pass = new CollectionPass(options, nodes, report);
    try {
      for (const [at, one] of opened.entries()) {
        if (one.status === 'fulfilled') continue;
        if (!isUnreachable(one.reason)) throw one.reason;
        note(report.unreachable, options.nodes[at]!.name);
      }
      const { repair } = options;
      if (repair.kind === 'prefer' && !nodes.some((node) => node.name === repair.node))
        throw new PgquorumError('node_unreachable', `node ${repair.node}, whose rows are preferred`);
      if (nodes.length < 2)
        throw new PgquorumError(
          'node_unreachable',
          `of the nodes to compare only ${nodes.length} can be reached`,
        );
      if (options.deep) pass.#checkColumns();
      await pass.#readHorizons();
      return pass;
    } catch (cause) {
      await pass[Symbol.asyncDispose]();
      throw cause;
    }
  }

  get shards(): number {
    return this.nodes[0]!.table.shards;
  }

  #checkColumns(): void {
    const [first, ...others] = this.nodes;
    const other = others.find((node) => node.columns !== first!.columns);
    if (other !== undefined)
      throw new PgquorumError(
        'schema_drift',
        `the columns of ${this.#options.collection} differ between ${first!.name} and ${other.name}: rows can not be compared`,
      );
  }

  async #readHorizons(): Promise<void> {
    const joined = new Map<number, Clock>();
    const read = [];
    for (const node of this.nodes) read.push(await node.readHorizons());
    for (const horizons of read)
      for (const [shard, horizon] of horizons)
        joined.set(shard, join(joined.get(shard) ?? emptyClock, horizon));
    for (const [shard, horizon] of joined)
      if (read.some((horizons) => !sameClock(horizons.get(shard) ?? emptyClock, horizon)))
        this.#uneven.add(shard);
    this.#horizons = joined;
    for (const node of this.nodes) node.useHorizons(joined);
  }

  /** Must come before `shard`. With `deep` also finds rows without a version, which no digest holds. */
  async digest(shards: readonly number[]): Promise<void> {
    const digests = await Promise.all(this.nodes.map((node) => node.digests(shards)));
    this.#digests = new Map(this.nodes.map((node, at) => [node.name, digests[at]!]));
    this.#differing = differingBuckets(this.#digests, (name, shard) =>
      this.nodes.find((node) => node.name === name)!.holds(shard),
    );
    if (this.#options.deep) await this.#unversioned(new Set(shards));
  }

  async #unversioned(shards: ReadonlySet<number>): Promise<void> {
    const limit = this.#pageKeys;
    for (const node of this.nodes) {
      for (;;) {
        const page = await node.unversioned(limit);
        const found = page.filter((one) => shards.has(one.shard));
        for (const [shard, keys] of Map.groupBy(found, (one) => one.shard))
          await this.#settle(
            shard,
            keys.map((one) => one.key),
          );
        // Without repair the same ones would come again.
        if (page.length < limit || found.length === 0 || this.#options.repair.kind === 'none') break;
      }
    }
  }

  /** Compares one shard and mends it as asked. Returns how many versions were compared. */
  async shard(shard: number): Promise<number> {
    const holders = this.#holders(shard);
    const buckets = this.#differing.get(shard);
    if (buckets !== undefined && holders.length > 1)
      for await (const keys of this.#differingKeys({ shard, buckets }, holders))
        await this.#settle(shard, keys);
    const counts = [...this.#digests.values()].map((list) =>
      list.reduce((sum, one) => sum + (one.shard === shard ? one.keys : 0), 0),
    );
    const keys = Math.max(0, ...counts);
    this.#report.shards += 1;
    this.#report.keys += keys;
    return keys;
  }

  /**
   * Of a shard that was digested: does every node of the cluster hold all of it, or nothing? What a node still has that does not hold the shard (a shard that has
   * moved, a write by SQL) was not compared.
   */
  isWhole(shard: number): boolean {
    return (
      this.complete &&
      this.#holders(shard).length > 0 &&
      this.nodes.every((node) => {
        const role = node.roleOf(shard);
        const digests = this.#digests.get(node.name) ?? [];
        return role === 'replica' || (role === 'none' && !digests.some((one) => one.shard === shard));
      })
    );
  }

  #holders(shard: number): VerifyNode[] {
    return this.nodes.filter((node) => node.holds(shard));
  }

  get #pageKeys(): number {
    return this.#options.pageKeys ?? 1000;
  }

  /** Keys of these buckets in which holders seem to differ, in pages: the same stretch of keys is read from all. */
  async *#differingKeys(
    place: { readonly shard: number; readonly buckets: readonly number[] },
    holders: readonly VerifyNode[],
  ): AsyncGenerator<KeyTexts[]> {
    const limit = this.#pageKeys;
    for (let after: KeyTexts | null = null; ;) {
      const read = (upTo: KeyTexts | null) =>
        Promise.all(holders.map((node) => node.keys(place, { after, limit, upTo })));
      let pages = await read(null);
      const ends = pages.flatMap((page) => (page.length === limit ? [page.at(-1)!.key] : []));
      const upTo: KeyTexts | null = ends.length === 0 ? null : await holders[0]!.firstOf(ends);
      if (upTo !== null) pages = await read(upTo);
      const keys = differing(pages);
      if (keys.length > 0) yield keys;
      if (upTo === null) break;
      after = upTo;
    }
    // Records of keys without a version are in no such page.
    const loose = await Promise.all(holders.map((node) => node.looseRecords(place, limit)));
    const keys = new Map(loose.flat().map((key) => [keyText(key), key]));
    if (keys.size > 0) yield [...keys.values()];
  }

  /** Finds out which of these keys really differ, mends and reports them. */
  async #settle(shard: number, keys: readonly KeyTexts[]): Promise<void> {
    const { cluster, collection, repair, logger, signal } = this.#options;
    const holders = this.#holders(shard);
    const horizon = this.#horizons.get(shard) ?? emptyClock;
    const { found, open } = await this.#confirm(holders, keys, horizon);
    const even = !this.#uneven.has(shard);
    const options = { cluster, collection, repair, holders, horizon, even, logger, signal };
    const mended = await repairKeys(options, found);
    for (const [at, { key, kind, views }] of found.entries())
      addDifference(this.#report, {
        collection,
        key: keyText(key),
        shard,
        kind,
        nodes: reportedViews(views),
        ...mended[at]!,
      });
    this.#report.inFlight += open.length;
    // Merging can do no harm, and their changes may never come.
    if (repair.kind !== 'none' && this.#options.mergeOpen !== false && open.length > 0)
      await repairKeys({ ...options, repair: { kind: 'merge' } }, open);
  }

  async #confirm(
    holders: readonly VerifyNode[],
    keys: readonly KeyTexts[],
    horizon: Clock,
  ): Promise<{ found: FoundDifference[]; open: FoundDifference[] }> {
    const found: FoundDifference[] = [];
    let then = differingOf(keys, await lookAt(holders, keys));
    let settled = true;
    for (let round = 0; round < roundsMax && then.length > 0 && settled; round += 1) {
      settled = await this.#caughtUp();
      const now = await lookAt(
        holders,
        then.map((one) => one.key),
      );
      const moving: FoundDifference[] = [];
      for (const one of then) {
        const views = now.get(keyText(one.key))!;
        const verdict = judge(one.views, views, horizon);
        if (verdict.kind === 'equal') continue;
        if (verdict.kind === 'differs' && settled)
          found.push({ key: one.key, kind: verdict.difference, views });
        else moving.push({ key: one.key, kind: differenceOf(views)!, views });
      }
      then = moving;
    }
    return { found, open: then };
  }

  /** Has everything that is committed now been applied everywhere? */
  async #caughtUp(): Promise<boolean> {
    const { collection, signal, catchUpMs = catchUpMsDefault } = this.#options;
    const marks = await markNow(this.nodes);
    const withinMs = this.#lagging ? Math.min(laggingMs, catchUpMs) : catchUpMs;
    const missing = await caughtUp(marks, this.nodes, { collection, withinMs, signal });
    for (const [origin, target] of missing) note(this.#report.behind, `${origin} -> ${target}`);
    this.#lagging = missing.length > 0;
    return missing.length === 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#options.signal.removeEventListener('abort', this.#close);
    await Promise.all(this.nodes.map((node) => node.close()));
  }
}

/** Neither a version that counts nor a row. */
const nothing = '-|-';

function differing(
  pages: readonly (readonly { readonly key: KeyTexts; readonly text: string }[])[],
): KeyTexts[] {
  const found = new Map<string, { key: KeyTexts; texts: string[] }>();
  for (const page of pages)
    for (const { key, text } of page) {
      if (text === nothing) continue;
      const entry = found.get(keyText(key));
      if (entry === undefined) found.set(keyText(key), { key, texts: [text] });
      else entry.texts.push(text);
    }
  return [...found.values()]
    .filter(({ texts }) => texts.length < pages.length || new Set(texts).size > 1)
    .map((one) => one.key);
}

const differingOf = (keys: readonly KeyTexts[], looked: ReadonlyMap<string, KeyViews>): FoundDifference[] =>
  keys.flatMap((key) => {
    const views = looked.get(keyText(key))!;
    const kind = differenceOf(views);
    return kind === null ? [] : [{ key, kind, views }];
  });
