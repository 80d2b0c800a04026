/**
 * The trigger functions that version every write of any SQL client, as SQL text. Pure.
 *
 * Invariant: after a statement every key that it touched has one version with a fresh dot whose clock covers all that was seen here.
 * One statement per trigger does the work for all keys in bulk; what is not obvious in it:
 * - distinct keys: cascades can put one key twice into a transition table, and a changed key is in the old and in the new one;
 * - `deleted` asks the table, never the kind of trigger: writable CTEs and users' triggers fire in odd orders;
 * - keys are locked in key order, rows before versions: apply takes them in the same order;
 * - no NOTIFY and no temporary table: PREPARE TRANSACTION refuses both;
 * - AFTER, since a BEFORE trigger would version an `on conflict do nothing` that changes nothing.
 *
 * Cost decides the form (bench/trigger-cost.bench.ts): an upsert of one row calls two of these, and each statement inside costs as much as
 * writing a row. So there are few, none gathers results, and whether replication writes is asked inside: a WHEN clause is parsed anew by
 * every statement of the user, which took 4 us a trigger, a fifth of the whole. Plans are kept by the session and made while the table may be
 * empty, when reading all of it looks cheapest: hence no sequential scans, and sub-selects that can be neither hashed nor joined.
 */
import type { CollectionTable } from './definition.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';

export type TriggerEvent = 'insert' | 'update' | 'delete' | 'truncate';
export const triggerEvents: readonly TriggerEvent[] = ['insert', 'update', 'delete', 'truncate'];

export const versionTable = (table: CollectionTable): string =>
  `pgquorum.${quoteName(`version_${table.collection}`)}`;
const functionName = (table: CollectionTable, event: TriggerEvent): string =>
  `pgquorum.${quoteName(`bump_${event}_${table.collection}`)}`;

const keyList = (table: CollectionTable, prefix: string): string =>
  table.key.map((column) => `${prefix}${quoteName(column.name)}`).join(', ');
const keyMatch = (table: CollectionTable, left: string, right: string): string =>
  table.key
    .map((column) => `${left}${quoteName(column.name)} = ${right}${quoteName(column.name)}`)
    .join(' and ');
/** The key's canonical text. */
export const keyTextSql = (table: CollectionTable, prefix: string): string =>
  table.key.length === 1
    ? `${prefix}${quoteName(table.key[0]!.name)}::text`
    : `pgquorum.key_text(${table.key.map((column) => `${prefix}${quoteName(column.name)}::text`).join(', ')})`;

/** Where a trigger finds the keys that its statement touched. */
function touchedKeys(table: CollectionTable, event: TriggerEvent): string {
  const from = (relation: string) => `select ${keyList(table, '')} from ${relation}`;
  switch (event) {
    case 'insert':
      return from('new_rows');
    case 'update':
      return `${from('new_rows')} union ${from('old_rows')}`;
    case 'delete':
      return from('old_rows');
    case 'truncate':
      return from(quoteTable({ schema: table.schema, name: table.table }));
  }
}

/** The texts of these key types depend on the session of whoever writes; pinned only where needed, since it costs something per statement. */
function textFormats(table: CollectionTable): string {
  const types = table.key.map((column) => column.type.split('.').at(-1)!.replaceAll('"', ''));
  return `${types.includes('date') ? ` set datestyle = 'ISO, YMD'` : ''}${types.includes('bytea') ? ' set bytea_output = hex' : ''}`;
}

/** Only sessions of `ownRole` may keep a write from being versioned, with the setting that apply uses. */
export function triggerFunction(table: CollectionTable, event: TriggerEvent, ownRole: string): string {
  const collection = quoteText(table.collection);
  const version = versionTable(table);
  const keys = keyList(table, '');
  const nothingTouched =
    event === 'truncate'
      ? ''
      : `  if not exists (select from ${event === 'delete' ? 'old_rows' : 'new_rows'}) then return null; end if;\n`;
  // A truncate empties the table after this trigger, so every row that is there now is a tombstone then.
  const deleted =
    event === 'truncate'
      ? 'true'
      : `(select true from ${quoteTable({ schema: table.schema, name: table.table })} t where ${keyMatch(table, 't.', 'k.')}) is null`;
  const isolation =
    event === 'truncate'
      ? `  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'truncate of a replicated table needs READ COMMITTED' using errcode = '25001', hint = 'An older snapshot does not show the rows that others wrote since: they would vanish without a tombstone.';
  end if;\n`
      : '';
  const touched = touchedKeys(table, event);
  const distinctKeys =
    event === 'update' ? touched : `select distinct ${keys} from (${touched}) touched_rows`;
  // What pgquorum.key_hash does, which Postgres does not inline: calling it costs more than the hash.
  const hash = `('x' || encode(substr(sha256(convert_to(${keyTextSql(table, 'k.')}, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint`;
  const seenOwn = `coalesce((coalesce(v.seen, v.clock) ->> me::text)::bigint, 0)`;
  return `create or replace function ${functionName(table, event)}() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off${textFormats(table)} as $body$
declare
  me smallint;
  floor_hlc bigint;
  request_id uuid;
  highest bigint;
begin
  if current_setting('pgquorum.apply', true) = 'on' and session_user = ${quoteText(ownRole)} then return null; end if;
${isolation}${nothingTouched}  select n.number, greatest(pgquorum.now_hlc(), (select max(h.hlc) from pgquorum.horizon h where h.collection = ${collection}))
    into strict me, floor_hlc from pgquorum.node n;
  request_id := nullif(current_setting('pgquorum.request', true), '')::uuid;
  insert into ${version} as v (${keys}, rank, epoch, hlc, origin, counter, clock, seen, deleted, applied, shard, request, crdt)
  select ${keyList(table, 'k.')}, 0, 0, floor_hlc, me, k.counter, jsonb_build_object(me, k.counter), null, ${deleted}, false,
    ${hash} % ${table.shards}, request_id, null
  from (select ${keys}, nextval('pgquorum.dot') as counter from (${distinctKeys} order by ${keys}) distinct_keys) k
  on conflict (${keys}) do update set
    hlc = greatest(excluded.hlc, v.hlc + 1),
    origin = me,
    counter = case
      when excluded.counter > ${seenOwn} then excluded.counter
      when set_config('pgquorum.dot_behind', 'on', true) = 'on' then ${seenOwn} + 1 end,
    clock = coalesce(v.seen, v.clock) || excluded.clock,
    seen = null, deleted = excluded.deleted, applied = false, request = excluded.request;
  -- Rare: the sequence was behind what a key had seen of our own counters. Draw anew for all keys, beyond every counter given.
  if current_setting('pgquorum.dot_behind', true) = 'on' then
    perform set_config('pgquorum.dot_behind', 'off', true);
    select max(v.counter) into highest from ${version} v join (${distinctKeys}) k on ${keyMatch(table, 'v.', 'k.')};
    perform pgquorum.advance_dot(highest);
    update ${version} v set counter = k.counter, clock = v.clock || jsonb_build_object(me, k.counter)
    from (select ${keys}, nextval('pgquorum.dot') as counter from (${distinctKeys} order by ${keys}) distinct_keys) k
    where ${keyMatch(table, 'v.', 'k.')};
  end if;
  if request_id is not null then
    insert into pgquorum.request (collection, key, request, origin, counter, hlc)
    select ${collection}, ${keyTextSql(table, 'k.')}, request_id, v.origin, v.counter, v.hlc
    from (${distinctKeys}) k, lateral (select v.origin, v.counter, v.hlc from ${version} v where ${keyMatch(table, 'v.', 'k.')} offset 0) v
    on conflict do nothing;
  end if;
  if exists (select from pgquorum.conflict c where c.collection = ${collection} and c.state = 'open') then
    update pgquorum.conflict c set state = 'superseded', state_hlc = floor_hlc, state_origin = me, applied = false
    from (${touched}) k
    where c.collection = ${collection} and c.state = 'open' and c.key = ${keyTextSql(table, 'k.')};
  end if;
  return null;
end
$body$`;
}

const transitionTables: Readonly<Record<TriggerEvent, string>> = {
  insert: 'referencing new table as new_rows ',
  update: 'referencing old table as old_rows new table as new_rows ',
  delete: 'referencing old table as old_rows ',
  truncate: '',
};

/** The triggers of a table. */
export function triggerStatements(table: CollectionTable, ownRole: string): string[] {
  const target = quoteTable({ schema: table.schema, name: table.table });
  return triggerEvents.flatMap((event) => {
    const name = `pgquorum_${event}`;
    return [
      triggerFunction(table, event, ownRole),
      `comment on function ${functionName(table, event)}() is 'Versions what a statement did to the keys of collection ${table.collection}.'`,
      `revoke execute on function ${functionName(table, event)}() from public`,
      `create trigger ${name} ${event === 'truncate' ? 'before' : 'after'} ${event} on ${target} ${transitionTables[event]}for each statement execute function ${functionName(table, event)}()`,
      `alter table ${target} enable always trigger ${name}`,
    ];
  });
}
