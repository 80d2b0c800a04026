/**
 * Runs custom resolvers on one node: for the open conflicts of the shards whose primary it is. Under a lease, so that one process does it; that two
 * do not write twice is seen to by each writing transaction (resolver-run.pg.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { listCollections, type CollectionRow } from '../collections/catalog.pg.ts';
import type { Logger } from '../observability/logger.process.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import type { ShardNumber } from '../versioning/version.ts';
import { attemptIsDueSql, keepAttempt } from './resolver-attempt.pg.ts';
import { openFunction } from './resolver-function.pg.ts';
import type { ResolverModules } from './resolver-modules.process.ts';
import { runResolver } from './resolver-run.pg.ts';
import { parseResolverName, ResolverFailure, type Resolver } from './resolver.ts';

/** How often it is looked for conflicts when there are none, and for collections that have resolvers. */
const pollMs = 250;
const idlePollMs = 1000;
/** Most keys of a collection in one go, before the next collection has its turn. */
const keysMax = 100;

export interface ResolversOptions {
  readonly node: ClusterNode;
  readonly isPrimary: (collection: CollectionRow, shard: ShardNumber) => boolean;
  readonly modules: ResolverModules;
  readonly timeoutMs: number;
  readonly logger: Logger;
  readonly onLeased?: () => void;
  readonly onResolved: (collection: string, records: number) => void;
  readonly onFailed: (collection: string) => void;
}

/** Runs until the signal aborts or the node is lost. */
export async function runResolvers(options: ResolversOptions, signal: AbortSignal): Promise<void> {
  const lease = await SessionLease.take(options.node.address, 'resolvers', signal);
  const connection = { application: 'pgquorum resolvers', answerWithinMs: options.timeoutMs + 30_000 };
  await lease?.connected(options.node.address, connection, async (client) => {
    options.onLeased?.();
    while (!signal.aborted) {
      await lease.check();
      const collections = (await listCollections(client)).filter(
        ({ definition }) => definition.conflicts.resolver !== undefined,
      );
      if (await resolveAll({ ...options, client, signal }, collections)) continue;
      const pauseMs = collections.length === 0 ? idlePollMs : pollMs;
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  });
}

interface Running extends ResolversOptions {
  readonly client: pg.Client;
  readonly signal: AbortSignal;
}

/** Did it get anything done? */
async function resolveAll(running: Running, collections: readonly CollectionRow[]): Promise<boolean> {
  const { rows } = await running.client.query<{ name: string }>(
    `select name from unnest($1::text[]) name where exists (select from pgquorum.conflict c where c.collection = name and c.state = 'open')`,
    [collections.map(({ name }) => name)],
  );
  let worked = false;
  for (const collection of collections) {
    if (running.signal.aborted || !rows.some(({ name }) => name === collection.name)) continue;
    worked = (await resolveCollection({ ...running, collection })) || worked;
  }
  return worked;
}

interface InCollection extends Running {
  readonly collection: CollectionRow;
}

interface DueKey {
  readonly key: readonly string[];
  readonly records: readonly string[];
}

async function resolveCollection(options: InCollection): Promise<boolean> {
  const { client, collection, signal, logger } = options;
  const name = collection.definition.conflicts.resolver!;
  const opened = await openResolver(options, name);
  const due = await dueKeys(options, name, opened instanceof ResolverFailure ? null : opened.version);
  let worked = false;
  for (const { key, records } of due) {
    if (signal.aborted) return worked;
    const failed = (error: string): void => {
      options.onFailed(collection.name);
      logger.warn({ collection: collection.name, resolver: name, error }, 'a resolver failed');
    };
    if (opened instanceof ResolverFailure) {
      await keepAttempt(client, { records, resolver: name, version: null, error: opened.message });
      failed(opened.message);
      continue;
    }
    const outcome = await runResolver({
      client,
      table: collection.table,
      key,
      resolver: opened,
      exactness: parseResolverName(name).kind === 'sql' ? 'exact' : 'plain',
      node: options.node.name,
    });
    if (outcome.kind === 'resolved') {
      worked = true;
      options.onResolved(collection.name, outcome.records);
    } else if (outcome.kind === 'failed') failed(outcome.error);
  }
  return worked;
}

async function openResolver(
  { client, modules, timeoutMs }: InCollection,
  name: string,
): Promise<Resolver | ResolverFailure> {
  const parsed = parseResolverName(name);
  try {
    return parsed.kind === 'module'
      ? await modules.open(parsed.file)
      : await openFunction(client, parsed, timeoutMs);
  } catch (cause) {
    if (cause instanceof ResolverFailure) return cause;
    throw cause;
  }
}

/** Keys with open conflicts whose time has come, of the shards whose primary this node is. */
async function dueKeys(
  { client, collection, isPrimary }: InCollection,
  resolver: string,
  version: string | null,
): Promise<DueKey[]> {
  const shards = Array.from({ length: collection.table.shards }, (_, shard) => shard).filter((shard) =>
    isPrimary(collection, shard as ShardNumber),
  );
  const { rows } = await client.query<{ key: string[]; records: string[] }>(
    `select (jsonb_agg(c.key_texts) -> 0) as key, array_agg(c.id::text) as records from pgquorum.conflict c
     where c.collection = $1 and c.state = 'open' and c.shard = any($2::integer[]) and ${attemptIsDueSql('c', '$3::text', '$4::text')}
     group by c.key order by c.key limit ${keysMax}`,
    [collection.name, shards, resolver, version],
  );
  return rows;
}
