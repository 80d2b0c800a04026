/** Collections, vectors and search. */
import { givenEmbedding, sentEmbedding, type EmbeddingInput } from './embedding.ts';
import type { CallOptions, Transport } from './transport.ts';
import type {
  AttachedTable,
  AttachRequest,
  Collection,
  CollectionRequest,
  ConflictRules,
  Consistency,
  FailedItem,
  MeasuredCollection,
  SearchAnswer,
  SearchRequest,
  StartedJob,
  StoredVector,
  VectorItem,
  VectorPatch,
  WriteAnswer,
  WrittenVector,
} from './types.ts';

export interface ReadOptions extends CallOptions {
  readonly consistency?: Consistency;
  /** How long the gateway tries; `deadlineMs` is for the call with its retries. */
  readonly timeoutMs?: number;
}
export interface GetOptions extends ReadOptions {
  /** Open conflicts of the keys are shown too. */
  readonly include?: 'siblings';
}
export interface WriteOptions extends ReadOptions {
  readonly coordinator?: 'primary' | 'nearest';
  readonly onTimeout?: 'fail' | 'degrade';
  /** Made by the client when left out, so that its own retries are safe; give one that you keep to be safe across restarts too. */
  readonly idempotencyKey?: string;
}

export const segment = (text: string): string => encodeURIComponent(text);
const pathOf = (name: string): string => `/v1/collections/${segment(name)}`;
const withEmbedding = <T extends { readonly embedding?: EmbeddingInput | null }>(item: T): object =>
  item.embedding === undefined ? item : { ...item, embedding: sentEmbedding(item.embedding) };

export class Collections {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async list(options?: CallOptions): Promise<readonly Collection[]> {
    const request = { method: 'GET', path: '/v1/collections', repeatable: true } as const;
    return (await this.#transport.json<{ items: Collection[] }>(request, options)).items;
  }

  get(name: string, options?: CallOptions): Promise<MeasuredCollection> {
    return this.#transport.json({ method: 'GET', path: pathOf(name), repeatable: true }, options);
  }

  /** Makes it, or gives it when it is there with the same definition. */
  put(name: string, body: CollectionRequest, options?: CallOptions): Promise<Collection> {
    return this.#transport.json({ method: 'PUT', path: pathOf(name), body, repeatable: true }, options);
  }

  change(
    name: string,
    body: { readonly conflicts?: ConflictRules; readonly consistency?: Consistency },
    options?: CallOptions,
  ): Promise<Collection> {
    return this.#transport.json({ method: 'PATCH', path: pathOf(name), body, repeatable: true }, options);
  }

  /** A repeat would find nothing to drop, so there is none once it may have arrived. */
  drop(name: string, options?: CallOptions): Promise<void> {
    return this.#transport.json({ method: 'DELETE', path: pathOf(name), repeatable: false }, options);
  }

  /** Makes an existing table a collection. */
  attach(name: string, body: AttachRequest, options?: CallOptions): Promise<AttachedTable> {
    const path = `${pathOf(name)}/attach`;
    return this.#transport.json({ method: 'POST', path, body, repeatable: false }, options);
  }

  detach(name: string, options?: CallOptions): Promise<void> {
    return this.#transport.json(
      { method: 'POST', path: `${pathOf(name)}/detach`, repeatable: false },
      options,
    );
  }

  /** Alters the table on all nodes. */
  ddl(name: string, statement: string, options?: CallOptions): Promise<StartedJob> {
    return this.#transport.json(
      { method: 'POST', path: `${pathOf(name)}/ddl`, body: { statement }, repeatable: false },
      options,
    );
  }
}

export class Vectors {
  readonly #transport: Transport;
  readonly #float32: boolean;

  constructor(transport: Transport, float32: boolean) {
    this.#transport = transport;
    this.#float32 = float32;
  }

  /** A result for each item; an item that failed has `error`. Throws when all failed. */
  upsert(collection: string, vectors: readonly VectorItem[], options?: WriteOptions): Promise<WriteAnswer> {
    const body = { vectors: vectors.map(withEmbedding) };
    return this.#write({ method: 'POST', path: `${pathOf(collection)}/vectors`, body }, options);
  }

  /** With `ifMatch`, only if that is its version now. */
  patch(
    collection: string,
    id: string,
    patch: VectorPatch,
    options: WriteOptions & { readonly ifMatch?: string } = {},
  ): Promise<WrittenVector> {
    const headers = { 'if-match': options.ifMatch };
    const path = `${pathOf(collection)}/vectors/${segment(id)}`;
    return this.#write({ method: 'PATCH', path, body: withEmbedding(patch), headers }, options);
  }

  delete(collection: string, id: string, options?: WriteOptions): Promise<WrittenVector> {
    return this.#write({ method: 'DELETE', path: `${pathOf(collection)}/vectors/${segment(id)}` }, options);
  }

  deleteAll(collection: string, ids: readonly string[], options?: WriteOptions): Promise<WriteAnswer> {
    return this.#write(
      { method: 'POST', path: `${pathOf(collection)}/vectors/delete`, body: { ids } },
      options,
    );
  }

  async get(collection: string, id: string, options?: GetOptions): Promise<StoredVector> {
    const path = `${pathOf(collection)}/vectors/${segment(id)}`;
    return this.#shown(
      await this.#transport.json<StoredVector>(
        { method: 'GET', path, query: readQuery(options), repeatable: true },
        options,
      ),
    );
  }

  /** Those that are missing have `error`. */
  async getAll(
    collection: string,
    ids: readonly string[],
    options?: GetOptions,
  ): Promise<readonly (StoredVector | FailedItem)[]> {
    const path = `${pathOf(collection)}/vectors/get`;
    const { items } = await this.#transport.json<{ items: (StoredVector | FailedItem)[] }>(
      { method: 'POST', path, body: { ids }, query: readQuery(options), repeatable: true },
      options,
    );
    return items.map((item) => ('error' in item ? item : this.#shown(item)));
  }

  async search(
    collection: string,
    request: SearchRequest,
    options?: CallOptions & { readonly timeoutMs?: number },
  ): Promise<SearchAnswer> {
    const path = `${pathOf(collection)}/search`;
    const body = withEmbedding(request as { embedding?: EmbeddingInput });
    const answer = await this.#transport.json<SearchAnswer>(
      { method: 'POST', path, body, query: { timeoutMs: options?.timeoutMs }, repeatable: true },
      options,
    );
    return this.#float32 ? { ...answer, matches: answer.matches.map((match) => this.#shown(match)) } : answer;
  }

  #write<T>(
    request: {
      readonly method: 'POST' | 'PATCH' | 'DELETE';
      readonly path: string;
      readonly body?: unknown;
      readonly headers?: Readonly<Record<string, string | undefined>>;
    },
    options: WriteOptions = {},
  ): Promise<T> {
    const { consistency, timeoutMs, coordinator, onTimeout } = options;
    const key = options.idempotencyKey ?? crypto.randomUUID();
    return this.#transport.json(
      {
        ...request,
        query: { consistency, timeoutMs, coordinator, onTimeout },
        headers: { ...request.headers, 'idempotency-key': key },
        repeatable: true,
      },
      options,
    );
  }

  #shown<T extends object>(item: T): T {
    return 'embedding' in item ? { ...item, embedding: givenEmbedding(item.embedding, this.#float32) } : item;
  }
}

const readQuery = ({ consistency, timeoutMs, include }: GetOptions = {}) => ({
  consistency,
  timeoutMs,
  include,
});
