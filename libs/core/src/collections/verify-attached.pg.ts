/**
 * Has everything that one node holds of a collection reached the others, and is it the same there? Asked in key order, batch by batch, while writes go
 * on: what a node has seen only grows, so each version that is found must be seen elsewhere in time; and where two nodes hold the same version, their
 * rows must be equal in one snapshot each.
 */
import type pg from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import { PgquorumError } from '../errors/error.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import type { KeyPlace } from './backfill.pg.ts';
import type { CollectionTable } from './definition.ts';
import { versionTable } from './trigger.ts';
import { keyTextsSql, rowHashSql, sameKey } from './unversioned-rows.ts';

export interface VerifyOptions {
  readonly from: { readonly name: string; readonly client: pg.Client };
  readonly others: readonly { readonly name: string; readonly client: pg.Client }[];
  readonly table: CollectionTable;
  readonly columns: readonly string[];
  readonly after: KeyPlace;
  readonly batchRows: number;
  /** How long nothing may arrive before this gives up. */
  readonly stillMs: number;
  readonly signal: AbortSignal;
  readonly onBatch: (batch: { readonly checked: number; readonly after: KeyPlace }) => Promise<void>;
}

const pollMs = 100;

const nextVersionsSql = (table: CollectionTable, columns: readonly string[], after: boolean): string => {
  const keys = table.key.map(({ name }) => `v.${quoteName(name)}`).join(', ');
  const place = table.key.map(({ type }, at) => `$${at + 1}::text::${type}`).join(', ');
  return `select ${keyTextsSql(table, 'v.')} as key, v.origin, v.counter::text as counter, ${rowHashSql(columns, 't')} as row
    from ${versionTable(table)} v left join ${quoteTable({ schema: table.schema, name: table.table })} t on ${sameKey(table, 't.', 'v.')}
    ${after ? `where (${keys}) > (${place})` : ''} order by ${keys} limit $${after ? table.key.length + 1 : 1}`;
};

/** $1 what nextVersionsSql gave, as JSON: those that have not arrived, or have with another row. */
const unlikeSql = (table: CollectionTable, columns: readonly string[]): string => {
  const match = (alias: string) =>
    table.key
      .map(({ name, type }, at) => `${alias}.${quoteName(name)} = (u.version -> 'key' ->> ${at})::${type}`)
      .join(' and ');
  return `select u.version, v.origin is not null and coalesce((coalesce(v.seen, v.clock) ->> (u.version ->> 'origin'))::bigint, 0) >= (u.version ->> 'counter')::bigint as arrived
    from jsonb_array_elements($1::jsonb) u(version) left join ${versionTable(table)} v on ${match('v')} left join ${quoteTable({ schema: table.schema, name: table.table })} t on ${match('t')}
    where v.origin is null or coalesce((coalesce(v.seen, v.clock) ->> (u.version ->> 'origin'))::bigint, 0) < (u.version ->> 'counter')::bigint
      or (v.origin = (u.version ->> 'origin')::smallint and v.counter = (u.version ->> 'counter')::bigint and ${rowHashSql(columns, 't')} <> u.version ->> 'row')`;
};

interface VersionMark {
  readonly key: string[];
  readonly origin: number;
  readonly counter: string;
  readonly row: string;
}

export async function verifyAttached(options: VerifyOptions): Promise<void> {
  const { from, table, columns, batchRows } = options;
  let { after } = options;
  for (;;) {
    options.signal.throwIfAborted();
    const found = await from.client.query<VersionMark>(nextVersionsSql(table, columns, after !== null), [
      ...(after ?? []),
      batchRows,
    ]);
    if (found.rows.length === 0) return;
    await Promise.all(options.others.map((other) => arrived(options, other, found.rows)));
    after = found.rows.at(-1)!.key;
    await options.onBatch({ checked: found.rows.length, after });
  }
}

async function arrived(
  { from, table, columns, stillMs, signal }: VerifyOptions,
  other: VerifyOptions['others'][number],
  marks: readonly VersionMark[],
): Promise<void> {
  let wanted = marks;
  let deadline = Date.now() + stillMs;
  for (;;) {
    const unlike = await other.client.query<{ version: VersionMark; arrived: boolean }>(
      unlikeSql(table, columns),
      [JSON.stringify(wanted)],
    );
    const different = unlike.rows.filter((row) => row.arrived);
    if (different.length > 0)
      throw new PgquorumError(
        'attach_incomplete',
        `${different.length} rows of ${table.collection} differ between ${from.name} and ${other.name} under one version`,
        {
          extra: {
            from: from.name,
            to: other.name,
            keys: different.slice(0, 5).map(({ version }) => version.key),
          },
        },
      );
    if (unlike.rows.length === 0) return;
    if (unlike.rows.length < wanted.length) deadline = Date.now() + stillMs;
    wanted = unlike.rows.map(({ version }) => version);
    if (Date.now() > deadline)
      throw new PgquorumError(
        'attach_incomplete',
        `${wanted.length} of the rows of ${table.collection} that ${from.name} has are not on ${other.name}, and none has come for ${Math.round(stillMs / 1000)} s`,
        { extra: { from: from.name, to: other.name, keys: wanted.slice(0, 5).map(({ key }) => key) } },
      );
    await delay(pollMs, undefined, { signal });
  }
}
