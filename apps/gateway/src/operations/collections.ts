/** The verbs on collections. */
import type { CollectionRow } from '#core/collections/catalog.pg.ts';
import { parseChange, parseDefinition } from '#core/collections/definition-request.ts';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import type { CollectionDirectory } from '#core/collections/directory.pg.ts';
import type { Settings } from '#core/config/settings.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { checkCollectionName } from '#core/requests/fields.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';

export interface CollectionView {
  readonly name: string;
  readonly definition: CollectionDefinition;
  readonly shards: number;
  readonly createdAt: string;
}

export interface MeasuredCollectionView extends CollectionView {
  readonly rows: number;
  readonly bytes: number;
}

const view = ({ name, definition, createdAt }: CollectionRow): CollectionView => ({
  name,
  definition,
  shards: definition.shards,
  createdAt: createdAt.toISOString(),
});

export class CollectionOperations {
  readonly #settings: Settings;
  readonly #directory: CollectionDirectory;
  readonly #nodes: number;

  constructor(parts: { settings: Settings; directory: CollectionDirectory; nodes: number }) {
    this.#settings = parts.settings;
    this.#directory = parts.directory;
    this.#nodes = parts.nodes;
  }

  async put(name: string, body: unknown): Promise<{ created: boolean; collection: CollectionView }> {
    checkCollectionName(name);
    const definition = parseDefinition(body, {
      shards: this.#settings.numShards,
      strategy: this.#settings.conflictResolution,
      nodes: this.#nodes,
    });
    const { created } = await this.#directory.create(name, definition);
    return { created, collection: view(await this.#directory.get(name, deadlineIn(defaultTimeoutMs))) };
  }

  async change(name: string, body: unknown): Promise<CollectionView> {
    await this.#directory.change(name, (before) => parseChange(body, before));
    return view(await this.#directory.get(name, deadlineIn(defaultTimeoutMs)));
  }

  async get(name: string): Promise<MeasuredCollectionView> {
    const found = await this.#directory.measure(name, deadlineIn(defaultTimeoutMs));
    return { ...view(found), rows: found.rows, bytes: Number(found.bytes) };
  }

  async list(): Promise<CollectionView[]> {
    return (await this.#directory.list(deadlineIn(defaultTimeoutMs))).map(view);
  }

  async drop(name: string): Promise<void> {
    await this.#directory.drop(name);
  }
}
