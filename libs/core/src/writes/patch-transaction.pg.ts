/**
 * A patch on one node: the row and its CRDT fields in one transaction. The row is locked before anything is looked at, so that the version which is
 * compared, the metadata that is merged into and the rank of the model stay as they are until the commit. What is refused changes nothing.
 */
import type pg from 'pg';
import {
  castSql,
  sentAs,
  typeSql,
  type CollectionTable,
  type VectorType,
} from '../collections/definition.ts';
import { versionTable } from '../collections/trigger.ts';
import { checkIfMatch } from '../conflicts/if-match.ts';
import { PgquorumError } from '../errors/error.ts';
import { textArray } from '../postgres/binary-array.ts';
import { quoteTable } from '../postgres/identifier.ts';
import type { VersionColumns } from '../versioning/version-view.ts';
import { metadataBytesMax } from './item.ts';
import { modelOutdated, type Models } from './model.ts';
import { patchesRow, type PatchItem } from './patch-item.ts';
import { statement, versionsStatement, type NamedStatement } from './statements.ts';
import {
  holdRequest,
  inOrder,
  inTransaction,
  nameModel,
  run,
  type TransactionOptions,
  type WrittenKey,
} from './transaction.pg.ts';

export interface DotColumns {
  readonly origin: number;
  readonly counter: string;
}

/** A record of a request that patched: what it did to the row, or to the CRDT fields, and the version that the row has now. */
export interface PatchRecord extends DotColumns {
  readonly operation: boolean;
  readonly now: VersionColumns | null;
}

export type PatchOutcome =
  | { readonly kind: 'written'; readonly version: VersionColumns; readonly operation: DotColumns | null }
  | { readonly kind: 'recorded'; readonly records: readonly PatchRecord[] };

export interface PatchOptions extends TransactionOptions {
  readonly vectorType: VectorType;
  readonly models: Models;
  readonly item: PatchItem;
  /** Whether the request may have been here before. */
  readonly mayRepeat: boolean;
}

const rowsOf = (table: CollectionTable): string => quoteTable({ schema: table.schema, name: table.table });

/** What a request did to a key. */
export async function patchRecords(
  client: pg.PoolClient,
  table: CollectionTable,
  { request, key }: { readonly request: string; readonly key: string },
): Promise<PatchRecord[]> {
  const found = await run<PatchRecord>(
    client,
    statement(
      `select r.origin, r.counter::text as counter, r.hlc = 0 as operation,
         case when v.id is not null then jsonb_build_object('hlc', v.hlc::text, 'origin', v.origin, 'counter', v.counter::text, 'clock', v.clock) end as now
       from pgquorum.request r left join ${versionTable(table)} v on v.id = r.key
       where r.collection = $1 and r.request = $2 and r.key = $3`,
    ),
    [table.collection, request, key],
  );
  return found.rows;
}

export function patchOn(options: PatchOptions): Promise<PatchOutcome> {
  const { client, table, request, item } = options;
  return inTransaction(options, async (begun) => {
    if (options.mayRepeat) {
      const [, , records] = await inOrder([
        begun,
        request.bodyHash === null ? undefined : holdRequest(client, request),
        patchRecords(client, table, { request: request.id, key: item.id }),
      ]);
      if (records.length > 0) return { kind: 'recorded', records };
    }
    const [, , row, version] = await inOrder([
      begun,
      item.model === null ? undefined : nameModel(client, item.model.name),
      run<{ bytes: number }>(client, lockStatement(table), [item.id]),
      // A statement of its own, after the lock: it sees what the lock waited for.
      run<WrittenKey & { rank: number }>(client, rankedVersionStatement(table), [item.id]),
    ]);
    check(options, row.rows[0], version.rows[0]);
    return write(options, row.rows[0]!.bytes);
  });
}

const lockStatement = (table: CollectionTable): NamedStatement =>
  statement(
    `select octet_length(t.metadata::text) as bytes from ${rowsOf(table)} t where t.id = $1 for no key update`,
  );

const rankedVersionStatement = (table: CollectionTable): NamedStatement =>
  statement(
    `select id, hlc::text as hlc, origin, counter::text as counter, clock, rank from ${versionTable(table)} where id = $1`,
  );

/** What is refused is rolled back, so no commit of it can be in doubt. */
function check(
  { item, models }: PatchOptions,
  row: unknown,
  version: (WrittenKey & { rank: number }) | undefined,
): void {
  if (row === undefined) throw new PgquorumError('vector_not_found', `vector ${JSON.stringify(item.id)}`);
  checkIfMatch(item.ifMatch, version ?? null);
  const rank = version?.rank ?? 0;
  if (item.model !== null && rank > item.model.rank) throw modelOutdated(item.model, rank, models);
}

/** Row first: it gives a row that has no version one, which operations need. */
async function write(options: PatchOptions, bytesBefore: number): Promise<PatchOutcome> {
  const { client, table, request, item } = options;
  const [row, operated, versions] = await inOrder([
    patchesRow(item) ? writeRow(options) : undefined,
    item.operations === null
      ? undefined
      : run<DotColumns>(
          client,
          statement(
            'select c.origin, c.counter::text as counter from pgquorum.crdt_change($1, $2, $3, $4) c',
          ),
          // Without a key the request is not repeated, and nothing has to be remembered in the state to tell a repeat.
          [table.collection, item.id, item.operations, request.bodyHash === null ? null : request.id],
        ),
    run<WrittenKey>(client, versionsStatement(table), [textArray([item.id])]),
  ]);
  if (row !== undefined) {
    const [written] = row.rows;
    if (written === undefined)
      throw new PgquorumError(
        'constraint_violated',
        'a trigger of the table keeps the row from being written',
      );
    if (written.bytes > metadataBytesMax && written.bytes > bytesBefore)
      throw new PgquorumError(
        'invalid_metadata',
        `metadata: would be larger than ${metadataBytesMax} bytes with this patch`,
      );
  }
  const [version] = versions.rows;
  if (version === undefined) throw new PgquorumError('version_missing', 'the row has no version');
  return { kind: 'written', version, operation: operated?.rows[0] ?? null };
}

/** A patch that only names a model writes the row as it is. */
function writeRow({
  client,
  table,
  vectorType,
  item,
}: PatchOptions): Promise<pg.QueryResult<{ bytes: number }>> {
  const values: unknown[] = [item.id];
  const sets: string[] = [];
  if (item.metadata !== null)
    sets.push(`metadata = pgquorum.merge_patch(t.metadata, $${values.push(item.metadata)}::jsonb)`);
  if (item.embedding !== undefined) {
    const sent = `$${values.push(item.embedding)}::${typeSql[sentAs[vectorType]]}`;
    sets.push(`embedding = ${castSql(sent, vectorType)}`);
  }
  if (sets.length === 0) sets.push('metadata = t.metadata');
  return run(
    client,
    statement(
      `update ${rowsOf(table)} t set ${sets.join(', ')} where t.id = $1 returning octet_length(t.metadata::text) as bytes`,
    ),
    values,
  );
}
