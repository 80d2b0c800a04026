/**
 * Stamping what was done behind the triggers' back: rows that have no version, or whose presence is not what their version says. They get a dot of
 * this node and the lowest hlc that they can have, so that any real write beats them, and are published as this node's writes: hence a plain
 * session, not one whose changes are marked as replicated.
 */
import type { NodeAddress } from '../config/settings.ts';
import type pg from 'pg';
import { keyTextSql, versionTable } from '../collections/trigger.ts';
import { stampCtes } from '../collections/unversioned-rows.ts';
import type { Logger } from '../observability/logger.process.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import { TargetCatalog } from './target.pg.ts';
import type { TargetTable } from './target-table.ts';
import type { UnversionedRows } from './outcomes.ts';

export async function stampRows(node: NodeAddress, rows: UnversionedRows, logger: Logger): Promise<void> {
  await withConnection(node, { application: 'pgquorum stamp' }, async (client) => {
    const table = await new TargetCatalog(client).table(rows.collection);
    const match = table.key
      .map((key, at) => `t.${quoteName(key.name)} = u.k${at}::${key.type}`)
      .join(' and ');
    const fields = table.key.map((_, at) => `k${at}`).join(', ');
    const rowsOfKeys = `unnest(${table.key.map((_, at) => `$${at + 1}::text[]`).join(', ')}) u(${fields}) join ${quoteTable({ schema: table.schema, name: table.table })} t on ${match}`;
    const stamped = await client.query(
      `with ${stampCtes(table, rowsOfKeys)} select from inserted`,
      table.key.map((_, at) => rows.keys.map((key) => key[at])),
    );
    if (stamped.rows.length > 0)
      logger.warn(
        { collection: rows.collection, rows: stamped.rows.length },
        'rows without a version were stamped: they were there before their table was attached, or were written with triggers disabled',
      );
    await stampPresence(client, table, rows.keys, logger);
  });
}

/** Gives versions that say alive of a row that is gone, or dead of one that is there, a successor that tells the truth. */
async function stampPresence(
  client: pg.Client,
  table: TargetTable,
  keys: readonly (readonly string[])[],
  logger: Logger,
): Promise<void> {
  const from = `unnest(${table.key.map((_, at) => `$${at + 1}::text[]`).join(', ')}) u(${table.key.map((_, at) => `k${at}`).join(', ')})`;
  const match = table.key.map((key, at) => `v.${quoteName(key.name)} = u.k${at}::${key.type}`).join(' and ');
  const row = `select from ${quoteTable({ schema: table.schema, name: table.table })} t where ${table.key.map((key) => `t.${quoteName(key.name)} = v.${quoteName(key.name)}`).join(' and ')}`;
  const values = table.key.map((_, at) => keys.map((key) => key[at]));
  await client.query('begin');
  // Locked first: what follows then sees every write of these keys that is committed, and later ones wait to see this.
  await client.query(
    `select from ${versionTable(table)} v join ${from} on ${match} order by ${table.key.map((key) => `v.${quoteName(key.name)}`).join(', ')} for update of v`,
    values,
  );
  await client.query(
    `select pgquorum.advance_dot(max((coalesce(v.seen, v.clock) ->> n.number::text)::bigint)) from ${versionTable(table)} v join ${from} on ${match} cross join pgquorum.identity n`,
    values,
  );
  const stamped = await client.query<{ key: string }>(
    `with drawn as (select v.*, nextval('pgquorum.dot') as drawn from ${versionTable(table)} v join ${from} on ${match} where v.deleted = exists (${row}))
     update ${versionTable(table)} v set hlc = v.hlc + 1, origin = n.number, counter = d.drawn, clock = coalesce(v.seen, v.clock) || jsonb_build_object(n.number, d.drawn), seen = null, deleted = not d.deleted,
       applied = false, request = null
     from drawn d, pgquorum.identity n where ${table.key.map((key) => `v.${quoteName(key.name)} = d.${quoteName(key.name)}`).join(' and ')} returning ${keyTextSql(table, 'v.')} as key`,
    values,
  );
  await client.query(
    `update pgquorum.conflict c set state = 'superseded', state_hlc = pgquorum.now_hlc(), state_origin = n.number, applied = false from pgquorum.identity n
     where c.collection = $1 and c.key = any($2::text[]) and c.state = 'open'`,
    [table.collection, stamped.rows.map((one) => one.key)],
  );
  await client.query('commit');
  if (stamped.rowCount! > 0)
    logger.warn(
      { collection: table.collection, rows: stamped.rowCount },
      'rows came or went behind the triggers: their versions now say so',
    );
}
