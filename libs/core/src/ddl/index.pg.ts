/**
 * `create index` and `drop index` on all masters, one master after the other and concurrently: nobody's writes wait, and no two masters are busy with it at
 * once. A build that was cut off leaves an index that is not valid; it is made anew.
 */
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { JobHandle } from '../jobs/job.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import { classifySqlState, isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import { findIndex, fullName } from './check.pg.ts';
import { failedOn, type OpenNode } from './nodes.pg.ts';
import { createIndexSql, type DdlStatement } from './statement.ts';

interface Begun {
  /** Names of the masters at which this job has begun: what stands there is its own. */
  readonly begun: readonly string[];
}

export async function createIndexOnAll(
  open: readonly OpenNode[],
  {
    job,
    collection,
    statement,
  }: { job: JobHandle; collection: CollectionRow; statement: DdlStatement & { kind: 'create-index' } },
): Promise<void> {
  const begun = new Set((job.checkpoint as Begun | null)?.begun);
  const name = quoteTable({ schema: collection.table.schema, name: statement.index });
  for (const [at, { name: node, client }] of open.entries()) {
    let found = await findIndex(client, collection, statement.index);
    if (found !== null && !begun.has(node) && !(statement.ifNotExists && found.ours && found.valid))
      throw new PgquorumError(
        'ddl_failed',
        `${node} has an index ${statement.index} already${standing(open, at)}`,
      );
    begun.add(node);
    await job.report({ done: at, total: open.length, unit: 'nodes' }, { begun: [...begun] } satisfies Begun);
    if (found !== null && !found.valid) {
      await onNode(node, standing(open, at), () => client.query(`drop index concurrently if exists ${name}`));
      found = null;
    }
    if (found !== null) continue;
    try {
      await client.query(createIndexSql(statement, { table: fullName(collection), concurrently: true }));
    } catch (cause) {
      if (!isPassing(cause)) await client.query(`drop index concurrently if exists ${name}`);
      throw failure(node, cause, standing(open, at));
    }
  }
  await job.report({ done: open.length, total: open.length, unit: 'nodes' }, {
    begun: [...begun],
  } satisfies Begun);
}

export async function dropIndexOnAll(
  open: readonly OpenNode[],
  { job, collection, index }: { job: JobHandle; collection: CollectionRow; index: string },
): Promise<void> {
  for (const [at, { name: node, client }] of open.entries()) {
    await job.report({ done: at, total: open.length, unit: 'nodes' }, { dropped: at });
    const found = await findIndex(client, collection, index);
    if (found === null) continue;
    if (!found.ours)
      throw new PgquorumError(
        'ddl_failed',
        `${node}: index ${index} is not one of the collection's table, or keeps a constraint`,
      );
    await onNode(node, at === 0 ? '' : `; it is gone from ${namesOf(open.slice(0, at))}`, () =>
      client.query(
        `drop index concurrently if exists ${quoteName(collection.table.schema)}.${quoteName(index)}`,
      ),
    );
  }
  await job.report({ done: open.length, total: open.length, unit: 'nodes' }, { dropped: open.length });
}

const namesOf = (nodes: readonly OpenNode[]): string => nodes.map(({ name }) => name).join(', ');

const standing = (open: readonly OpenNode[], at: number): string =>
  at === 0 ? '' : `; the index stands on ${namesOf(open.slice(0, at))}`;

async function onNode(node: string, standingNow: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    throw failure(node, cause, standingNow);
  }
}

function isPassing(cause: unknown): boolean {
  const sqlstate = sqlStateOf(cause);
  return isConnectionError(cause) || sqlstate === null || classifySqlState(sqlstate) === 'retry';
}

const failure = (node: string, cause: unknown, standingNow: string): PgquorumError =>
  new PgquorumError(
    isPassing(cause) ? 'replicas_unavailable' : 'ddl_failed',
    `${failedOn(node, cause)}${standingNow}`,
    { cause },
  );
