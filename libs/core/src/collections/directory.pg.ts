/**
 * The collections as a gateway knows them: read from a node and kept for a moment, since every request asks. Whoever meets an error that a changed
 * collection would explain forgets the entry, so that the next request reads it anew.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { attachCollection, type AttachOutcome } from './attach.pg.ts';
import type { AttachRequest } from './attach-request.ts';
import type { CollectionDefinition } from './definition.ts';
import {
  changeCollection,
  createCollection,
  dropCollection,
  listCollections,
  measureCollection,
  readCollection,
  type CollectionRow,
  type DefinitionCheck,
} from './catalog.pg.ts';
import { detachCollection } from './detach.pg.ts';
import { checkDdl } from '../ddl/check.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { timeOver, type Deadline } from '../postgres/deadline.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import { coverShards } from '../shards/cover.ts';
import { newest, type ShardMap } from '../shards/entry.ts';
import { checkCollectionName } from '../requests/fields.ts';
import { onFirst, type Nodes } from '../topology/nodes.pg.ts';

const keptMs = 1000;
/** How often a request goes on by a newer shard map before it gives up. */
export const staleMapTries = 20;
const staleMapPauseMs = 25;

export interface MeasuredCollection extends CollectionRow {
  readonly rows: number;
  readonly bytes: string;
}

export class CollectionDirectory {
  readonly #nodes: Nodes;
  readonly #check: DefinitionCheck | undefined;
  readonly #entries = new Map<string, { readonly row: CollectionRow; readonly untilMs: number }>();

  /** `check` refuses what a node cannot do. */
  constructor(nodes: Nodes, check?: DefinitionCheck) {
    this.#nodes = nodes;
    this.#check = check;
  }

  async get(name: string, deadline: Deadline): Promise<CollectionRow> {
    checkCollectionName(name);
    const kept = this.#entries.get(name);
    if (kept !== undefined && performance.now() < kept.untilMs) return kept.row;
    return this.#keep(name, [
      await onFirst(this.#nodes.anyOrder(), deadline, (client) => readCollection(client, name)),
    ]);
  }

  /** After a node has refused an epoch. A change of the map is on its way from node to node: what is found a moment later has more of it. */
  async refreshSoon(name: string, deadline: Deadline): Promise<CollectionRow> {
    await sleep(staleMapPauseMs * (0.5 + Math.random()));
    return this.refresh(name, deadline);
  }

  /** As the nodes that can be asked have it now. */
  async refresh(name: string, deadline: Deadline): Promise<CollectionRow> {
    checkCollectionName(name);
    const asked = await Promise.allSettled(
      this.#nodes.live.map((node) => node.run(deadline, (client) => readCollection(client, name))),
    );
    const rows = asked.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    if (rows.length === 0)
      throw remainingMs(deadline) <= 0
        ? timeOver(deadline)
        : new PgquorumError('replicas_unavailable', 'no node could be asked for the shard map');
    return this.#keep(name, rows);
  }

  /** One node's map may be behind what another one told before. */
  #keep(name: string, rows: readonly (CollectionRow | null)[]): CollectionRow {
    const found = rows.find((row) => row !== null);
    const before = this.#entries.get(name)?.row.map;
    this.#entries.delete(name);
    if (found == null) throw new PgquorumError('collection_not_found', `collection ${name}`);
    const maps = [...rows.map((row) => row?.map), before].filter((map) => map !== undefined);
    const map = newest(maps).filter(({ shard }) => shard < found.table.shards);
    const row = found.map === undefined ? found : { ...found, map };
    this.#entries.set(name, { row, untilMs: performance.now() + keptMs });
    return row;
  }

  forget(name: string): void {
    this.#entries.delete(name);
  }

  list(deadline: Deadline): Promise<CollectionRow[]> {
    return onFirst(this.#nodes.anyOrder(), deadline, (client) => listCollections(client));
  }

  async measure(name: string, deadline: Deadline): Promise<MeasuredCollection> {
    const row = await this.get(name, deadline);
    if (row.map !== undefined) return { ...row, ...(await this.#measureParts(row, deadline)) };
    const measured = await onFirst(this.#nodes.anyOrder(), deadline, (client) =>
      measureCollection(client, row.table, null),
    );
    return { ...row, ...measured };
  }

  /** Each shard at one of its replicas; bytes are those of the nodes that were asked. */
  async #measureParts(
    { table, map }: CollectionRow,
    deadline: Deadline,
  ): Promise<{ rows: number; bytes: string }> {
    const live = this.#nodes.anyOrder().filter((node) => node.isUp);
    const { nodes, missing } = coverShards(
      map ?? [],
      live.map(({ name }) => name),
    );
    if (missing.length > 0)
      throw new PgquorumError('replicas_unavailable', `${missing.length} shards have no live replica`);
    const parts = await Promise.all(
      [...nodes].map(([name, shards]) =>
        this.#nodes.byName(name)!.run(deadline, (client) => measureCollection(client, table, shards)),
      ),
    );
    return {
      rows: parts.reduce((sum, part) => sum + part.rows, 0),
      bytes: String(parts.reduce((sum, part) => sum + BigInt(part.bytes), 0n)),
    };
  }

  async create(
    name: string,
    definition: CollectionDefinition,
    map?: ShardMap,
  ): Promise<{ created: boolean }> {
    checkCollectionName(name);
    try {
      return await createCollection({ nodes: this.#addresses(), name, definition, check: this.#check, map });
    } finally {
      this.forget(name);
    }
  }

  async change(name: string, change: (before: CollectionDefinition) => CollectionDefinition): Promise<void> {
    checkCollectionName(name);
    try {
      await changeCollection({ nodes: this.#addresses(), name, change, check: this.#check });
    } finally {
      this.forget(name);
    }
  }

  /** Throws what is in the way of running this statement on all nodes. */
  async checkDdl(name: string, statement: string, deadline: Deadline): Promise<void> {
    checkCollectionName(name);
    await onFirst(this.#nodes.anyOrder(), deadline, (client) =>
      checkDdl(client, { collection: name, statement }),
    );
  }

  async drop(name: string): Promise<void> {
    checkCollectionName(name);
    try {
      await dropCollection({ nodes: this.#addresses(), name });
    } finally {
      this.forget(name);
    }
  }

  async attach(name: string, request: AttachRequest): Promise<AttachOutcome> {
    checkCollectionName(name);
    try {
      return await attachCollection({ nodes: this.#addresses(), name, request });
    } finally {
      this.forget(name);
    }
  }

  async detach(name: string): Promise<void> {
    checkCollectionName(name);
    try {
      await detachCollection({ nodes: this.#addresses(), name });
    } finally {
      this.forget(name);
    }
  }

  #addresses() {
    return this.#nodes.all.map((node) => node.address);
  }
}
