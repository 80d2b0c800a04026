/**
 * Declares the rows that stand on one node to be what its keys are, by a new version that has seen all that the node has: what an operator asks for where rows were
 * changed behind the triggers' back, and no version tells which of them is right. The row itself is not touched, so users' triggers do not run. Published as a
 * write of this node; hence a plain session.
 */
import type pg from 'pg';
import type { TargetTable } from '../apply/target-table.ts';
import type { KeyTexts } from '../changelog/change.ts';
import { keyTextSql, versionTable } from '../collections/trigger.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import { transactionBegunBy } from '../postgres/transaction.pg.ts';

export interface PreferredKey {
  readonly key: KeyTexts;
  /** The version that was looked at: a key that somebody has written since is left alone. */
  readonly dot: string;
}

const begin = `begin isolation level read committed; set local lock_timeout = '5s'`;

/** Returns the texts of the keys that got a new version. */
export async function preferRows(
  client: pg.Client,
  table: TargetTable,
  keys: readonly PreferredKey[],
): Promise<string[]> {
  const match = (alias: string) =>
    table.key.map((key, at) => `${alias}.${quoteName(key.name)} = u.k${at}::${key.type}`).join(' and ');
  const from = `unnest(${table.key.map((_, at) => `$${at + 1}::text[]`).join(', ')}, $${table.key.length + 1}::text[]) u(${table.key.map((_, at) => `k${at}`).join(', ')}, dot)`;
  const order = (alias: string) => table.key.map((key) => `${alias}.${quoteName(key.name)}`).join(', ');
  const rows = quoteTable({ schema: table.schema, name: table.table });
  const values = [...table.key.map((_, at) => keys.map((one) => one.key[at])), keys.map((one) => one.dot)];
  const changed = versionTable(table);
  return transactionBegunBy(client, begin, async () => {
    // As users' statements take them: rows, then versions, in key order.
    await client.query(
      `select from ${rows} t join ${from} on ${match('t')} order by ${order('t')} for update of t`,
      values,
    );
    await client.query(
      `select from ${changed} v join ${from} on ${match('v')} order by ${order('v')} for update of v`,
      values,
    );
    await client.query(
      `select pgquorum.advance_dot(max((coalesce(v.seen, v.clock) ->> n.number::text)::bigint)) from ${changed} v join ${from} on ${match('v')} cross join pgquorum.node n`,
      values,
    );
    const written = await client.query<{ key: string }>(
      `with drawn as (select v.*, nextval('pgquorum.dot') as drawn from ${changed} v join ${from} on ${match('v')} where v.origin || '.' || v.counter = u.dot)
       update ${changed} v set hlc = greatest(pgquorum.now_hlc(), v.hlc + 1, (n.floors ->> $${table.key.length + 2})::bigint), origin = n.number, counter = d.drawn,
         clock = coalesce(v.seen, v.clock) || jsonb_build_object(n.number, d.drawn), seen = null,
         deleted = not exists (select from ${rows} t where ${table.key.map((key) => `t.${quoteName(key.name)} = v.${quoteName(key.name)}`).join(' and ')}), applied = false, request = null
       from drawn d, pgquorum.node n where ${table.key.map((key) => `v.${quoteName(key.name)} = d.${quoteName(key.name)}`).join(' and ')} returning ${keyTextSql(table, 'v.')} as key`,
      [...values, table.collection],
    );
    // Siblings stay open until a call resolves them, as after any write.
    await client.query(
      `update pgquorum.conflict c set state = 'superseded', state_hlc = pgquorum.now_hlc(), state_origin = n.number, applied = false from pgquorum.node n, pgquorum.collection s
       where s.name = $1 and s.definition -> 'conflicts' ->> 'strategy' is distinct from 'vector-clock' and c.collection = $1 and c.key = any($2::text[]) and c.state = 'open'`,
      [table.collection, written.rows.map((row) => row.key)],
    );
    return written.rows.map((row) => row.key);
  });
}
