/** The verbs on vectors, from checked options to results. */
import type { CollectionDirectory } from '#core/collections/directory.pg.ts';
import type { CollectionRow } from '#core/collections/catalog.pg.ts';
import type { Settings } from '#core/config/settings.ts';
import { parseIfMatch } from '#core/conflicts/if-match.ts';
import { isPgquorumError, PgquorumError } from '#core/errors/error.ts';
import type { Deadline } from '#core/postgres/deadline.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import type { Reader } from '#core/reads/reader.pg.ts';
import type { ReadResult, StoredVector } from '#core/reads/stored-vector.ts';
import { checkFields, invalid, isObject } from '#core/requests/fields.ts';
import { parseSearch } from '#core/search/request.ts';
import type { Searcher, SearchResult } from '#core/search/searcher.pg.ts';
import { shardOf } from '#core/placement/partitioning.ts';
import { parseReadOptions, parseTimeout, parseWriteOptions } from '#core/writes/consistency.ts';
import { joinTokens } from '#core/writes/token.ts';
import { weakest, type Consistency } from '#core/writes/levels.ts';
import { checkVerb, idChecks, type TableVerb } from '#core/writes/attached.ts';
import { checkKey, parseIds, parseItems, type KeyItem, type ParsedItem } from '#core/writes/item.ts';
import { parsePatch } from '#core/writes/patch-item.ts';
import type { Patcher } from '#core/writes/patcher.pg.ts';
import type { ItemResult, WriteContext, WriteResults, Writer } from '#core/writes/writer.pg.ts';
import type { GatewayMetrics } from '../metrics.ts';
import type { PatchCall, ReadCall, WriteCall } from './caller.ts';

export interface WriteAnswer {
  readonly results: readonly ItemResult[];
  /** What all results have reached. */
  readonly consistency: Consistency;
  /** Lets a read see all of it; null when nothing was written, or what a large batch repeats was. */
  readonly token: string | null;
}

/** Of one vector. */
export type Written = Exclude<ItemResult, { error: unknown }> & Pick<WriteAnswer, 'consistency' | 'token'>;

const idempotencyKeyMax = 255;

export class VectorOperations {
  readonly #settings: Settings;
  readonly #directory: CollectionDirectory;
  readonly #writer: Writer;
  readonly #patcher: Patcher;
  readonly #reader: Reader;
  readonly #searcher: Searcher;
  readonly #metrics: GatewayMetrics;

  constructor(parts: {
    settings: Settings;
    directory: CollectionDirectory;
    writer: Writer;
    patcher: Patcher;
    reader: Reader;
    searcher: Searcher;
    metrics: GatewayMetrics;
  }) {
    this.#settings = parts.settings;
    this.#directory = parts.directory;
    this.#writer = parts.writer;
    this.#patcher = parts.patcher;
    this.#reader = parts.reader;
    this.#searcher = parts.searcher;
    this.#metrics = parts.metrics;
  }

  async upsert(name: string, body: unknown, call: WriteCall): Promise<WriteAnswer> {
    const vectors = this.#batch(body, 'vectors');
    const context = await this.#writeContext(name, 'upsert', call);
    const { dimension, vectorType, index, shards, partitioning, conflicts } = context.collection.definition;
    const parsed = parseItems(vectors, {
      dimension,
      vectorType,
      index,
      shards,
      partitioning,
      models: conflicts.models,
      ...idChecks(context.collection),
    });
    return this.#answer(context, await this.#writer.upsert(context, parsed));
  }

  async patch(name: string, id: string, body: unknown, call: PatchCall): Promise<Written> {
    const key = checkKey(id);
    const ifMatch = parseIfMatch(call.ifMatch);
    // A repeat has to be of the same vector and the same condition too, neither of which is in the body.
    const repeated = Buffer.concat([
      Buffer.from(`${JSON.stringify([key, ifMatch])}\0`),
      Buffer.from(call.body as Uint8Array),
    ]);
    const context = await this.#writeContext(name, 'patch', { ...call, body: repeated });
    const item = parsePatch(body, context.collection.definition, { id: key, ifMatch });
    try {
      const result = await this.#onWhoHasIt(context, item, (where) => this.#patcher.patch(where, item));
      this.#metrics.countWrite(name, 'ok');
      return { ...result, consistency: result.reached ?? context.level };
    } catch (cause) {
      this.#metrics.countWrite(name, isPgquorumError(cause) ? cause.code : 'internal');
      throw cause;
    }
  }

  async removeAll(name: string, body: unknown, call: WriteCall): Promise<WriteAnswer> {
    const ids = this.#batch(body, 'ids');
    const context = await this.#writeContext(name, 'delete', call);
    return this.#answer(
      context,
      await this.#remove(
        context,
        parseIds(ids, context.collection.definition, idChecks(context.collection).checkId),
      ),
    );
  }

  async remove(name: string, id: string, call: WriteCall): Promise<Written> {
    const key = checkKey(id);
    const context = await this.#writeContext(name, 'delete', { ...call, body: key });
    idChecks(context.collection).checkId?.(key);
    const { results, consistency, token } = this.#answer(
      context,
      await this.#remove(context, [
        { ok: true, item: { id: key, shard: shardOf(key, context.collection.definition) } },
      ]),
    );
    const [result] = results;
    if (result === undefined) throw new PgquorumError('internal', 'a delete gave no result');
    if ('error' in result) throw result.error;
    return { ...result, consistency, token };
  }

  /** Beyond ONE what its primary has not may be there all the same: whoever has it by a read at QUORUM deletes it. */
  async #remove(context: WriteContext, parsed: readonly ParsedItem<KeyItem>[]): Promise<WriteResults> {
    const first = await this.#writer.remove(context, parsed);
    const missed = parsed.filter((_, at) => isNotFound(first.results[at]!));
    const { preferred, unknown } = await this.#whoHas(context, missed);
    const elsewhere = missed.filter((one) => one.ok && preferred.has(one.item.id));
    const second =
      elsewhere.length === 0
        ? { results: [], token: null }
        : await this.#writer.remove({ ...context, preferred }, elsewhere);
    const again = new Map<string | null, ItemResult>(
      [...unknown, ...second.results].map((result) => [result.id, result]),
    );
    return {
      results: first.results.map((result) => again.get(result.id) ?? result),
      token: joinTokens(first.token, second.token),
    };
  }

  /** The same for one vector, by a call that rejects when it is not there. */
  async #onWhoHasIt<T>(
    context: WriteContext,
    item: KeyItem,
    work: (context: WriteContext) => Promise<T>,
  ): Promise<T> {
    try {
      return await work(context);
    } catch (cause) {
      const missing = isPgquorumError(cause) && cause.code === 'vector_not_found';
      if (!missing) throw cause;
      const { preferred, unknown } = await this.#whoHas(context, [{ ok: true, item }]);
      if (preferred.size === 0) throw unknown[0]?.error ?? cause;
      return work({ ...context, preferred });
    }
  }

  /** Who has them, and of which that could not be found out. Nobody is asked at ONE. */
  async #whoHas(
    { collection, deadline, level }: WriteContext,
    missed: readonly ParsedItem<KeyItem>[],
  ): Promise<{ preferred: ReadonlyMap<string, string>; unknown: readonly Failed[] }> {
    if (level === 'one' || missed.length === 0) return { preferred: new Map(), unknown: [] };
    const found = await this.#reader.getAll(collection, missed, {
      deadline,
      siblings: false,
      token: null,
      level: 'quorum',
    });
    const where = found.flatMap((one): [string, string][] => ('error' in one ? [] : [[one.id, one.node]]));
    return {
      preferred: new Map(where),
      unknown: found.flatMap((one) => ('error' in one && !isNotFound(one) ? [one] : [])),
    };
  }

  async get(name: string, id: string, call: ReadCall): Promise<StoredVector> {
    const key = checkKey(id);
    const { timeoutMs, siblings, level, token } = parseReadOptions(call.options);
    const deadline = deadlineIn(timeoutMs, call.caller.signal);
    const collection = await this.#collection(name, deadline, siblings ? 'siblings' : undefined);
    idChecks(collection).checkId?.(key);
    return this.#reader.get(
      collection,
      { id: key, shard: shardOf(key, collection.definition) },
      { deadline, siblings, level, token },
    );
  }

  async getAll(name: string, body: unknown, call: ReadCall): Promise<ReadResult[]> {
    const ids = this.#batch(body, 'ids');
    const { timeoutMs, siblings, level, token } = parseReadOptions(call.options);
    const deadline = deadlineIn(timeoutMs, call.caller.signal);
    const collection = await this.#collection(name, deadline, siblings ? 'siblings' : undefined);
    return this.#reader.getAll(
      collection,
      parseIds(ids, collection.definition, idChecks(collection).checkId),
      {
        deadline,
        siblings,
        level,
        token,
      },
    );
  }

  async search(name: string, body: unknown, call: ReadCall): Promise<SearchResult> {
    for (const field of Object.keys(call.options))
      if (field !== 'timeoutMs')
        throw new PgquorumError('unknown_field', `${field} is not a field of this request`);
    const deadline = deadlineIn(parseTimeout(call.options['timeoutMs']), call.caller.signal);
    const collection = await this.#collection(name, deadline, 'search');
    const request = parseSearch(body, collection.definition);
    if (request.near.kind === 'id') idChecks(collection).checkId?.(request.near.id);
    return this.#searcher.search(collection, request, deadline);
  }

  /** With `verb`, something that an attached table may not have the columns for. */
  async #collection(name: string, deadline: Deadline, verb?: TableVerb): Promise<CollectionRow> {
    const found = await this.#directory.get(name, deadline);
    if (verb !== undefined) checkVerb(found, verb);
    return found;
  }

  async #writeContext(
    name: string,
    verb: 'upsert' | 'patch' | 'delete',
    call: WriteCall,
  ): Promise<WriteContext> {
    const { timeoutMs, coordinator, level, onTimeout } = parseWriteOptions(call.options);
    const deadline = deadlineIn(timeoutMs, call.caller.signal);
    const { idempotencyKey, body, caller } = call;
    if (idempotencyKey !== null && (idempotencyKey === '' || idempotencyKey.length > idempotencyKeyMax))
      throw invalid(`Idempotency-Key: must have 1 to ${idempotencyKeyMax} characters`);
    const keyed =
      idempotencyKey === null ? null : { principal: caller.principal, idempotencyKey, verb, body };
    const collection = await this.#collection(name, deadline, verb === 'delete' ? undefined : verb);
    return {
      collection,
      deadline,
      coordinator,
      keyed,
      level: level ?? collection.definition.consistency ?? this.#settings.consistencyLevel,
      onTimeout,
    };
  }

  #batch(body: unknown, field: 'vectors' | 'ids'): unknown[] {
    if (!isObject(body)) throw invalid('the body must be an object');
    checkFields(body, '', [field]);
    const items = body[field];
    if (!Array.isArray(items)) throw invalid(`${field}: must be an array`);
    if (items.length > this.#settings.batchItemsMax)
      throw new PgquorumError(
        'batch_too_large',
        `${items.length} items, at most ${this.#settings.batchItemsMax} are taken at once`,
      );
    return items;
  }

  #answer(
    { collection: { name: collection }, level }: WriteContext,
    { results, token }: WriteResults,
  ): WriteAnswer {
    for (const result of results)
      this.#metrics.countWrite(collection, 'error' in result ? result.error.code : 'ok');
    const reached = results.flatMap((result) => ('error' in result ? [] : [result.reached ?? level]));
    return { results, consistency: weakest(reached) ?? level, token };
  }
}

type Failed = Extract<ItemResult, { error: unknown }>;

const isNotFound = (result: ItemResult | ReadResult): boolean =>
  'error' in result && result.error.code === 'vector_not_found';
