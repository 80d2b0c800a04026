/** Where the items of one request have been tried, and where they go next. */
import { staleMapTries } from '../collections/directory.pg.ts';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import type { Node } from '../topology/nodes.pg.ts';
import type { KeyItem } from './item.ts';

export interface Group<T> {
  readonly node: Node;
  readonly items: readonly T[];
}

export const outcomeUnknown = (): PgquorumError =>
  new PgquorumError(
    'write_outcome_unknown',
    'the connection was lost after the commit was sent, and no other node could take the write',
  );

/** Which items are still to be written, where they have been tried, and whether a commit of theirs may stand. */
export class Attempt<T extends KeyItem> {
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

  /** What has still to be written, and is not. */
  giveUp(): readonly T[] {
    const left = this.#pending;
    this.#pending = [];
    return left;
  }

  outcomeOf(item: T, cause?: unknown): PgquorumError {
    if (this.#mayStand.has(item)) return outcomeUnknown();
    return isPgquorumError(cause)
      ? cause
      : new PgquorumError('replicas_unavailable', 'no node of the shard can be written', { cause });
  }
}
