/**
 * Custom resolvers that are SQL functions: `schema.name(ours jsonb, theirs jsonb, context jsonb) returns jsonb`. Asked in a transaction that can not write and
 * is always rolled back, under a statement timeout: nothing that a function sets or does outlives its answer.
 */
import type pg from 'pg';
import { quoteName } from '../postgres/identifier.ts';
import { isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import { parseLossless } from '../requests/lossless-json.ts';
import { ResolverFailure, resolverVersion, type Resolver } from './resolver.ts';

const queryCanceled = '57014';

/** The function's definition on this node, or why it can not be used. */
export async function readFunction(
  client: pg.ClientBase,
  { schema, name }: { readonly schema: string; readonly name: string },
): Promise<{ readonly text: string } | { readonly missing: string }> {
  const shown = `${schema}.${name}(jsonb, jsonb, jsonb)`;
  const { rows } = await client.query<{ text: string; type: string; plain: boolean; allowed: boolean }>(
    `select pg_get_functiondef(p.oid) as text, format_type(p.prorettype, null) as type, p.prokind = 'f' and not p.proretset as plain,
       has_function_privilege(p.oid, 'execute') and has_schema_privilege(n.oid, 'usage') as allowed
     from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = $1 and p.proname = $2 and p.prokind in ('f', 'p', 'w')
       and oidvectortypes(p.proargtypes) = 'jsonb, jsonb, jsonb'`,
    [schema, name],
  );
  const found = rows[0];
  if (found === undefined) return { missing: `there is no function ${shown}` };
  if (!found.plain || found.type !== 'jsonb') return { missing: `${shown} does not return one jsonb` };
  if (!found.allowed) return { missing: `pgquorum's role may not execute ${shown}` };
  return { text: found.text };
}

export async function openFunction(
  client: pg.ClientBase,
  named: { readonly schema: string; readonly name: string },
  timeoutMs: number,
): Promise<Resolver> {
  const found = await readFunction(client, named);
  if ('missing' in found) throw new ResolverFailure(found.missing);
  const call = `select ${quoteName(named.schema)}.${quoteName(named.name)}($1::jsonb, $2::jsonb, $3::jsonb)::text as result`;
  return {
    name: `sql:${named.schema}.${named.name}`,
    version: resolverVersion(found.text),
    resolve: async (ours, theirs, context) => {
      await client.query(`begin read only; set local statement_timeout = ${timeoutMs}`);
      try {
        const values = [ours, theirs, context].map((value) => JSON.stringify(value));
        const { rows } = await client.query<{ result: string | null }>(call, values);
        const text = rows[0]!.result;
        return text === null ? null : parseLossless(text);
      } catch (cause) {
        if (isConnectionError(cause) || sqlStateOf(cause) === null) throw cause;
        if (sqlStateOf(cause) === queryCanceled)
          throw new ResolverFailure(`took longer than ${timeoutMs} ms`, { cause });
        throw new ResolverFailure(`threw: ${(cause as Error).message}`, { cause });
      } finally {
        await client.query('rollback');
      }
    },
  };
}
