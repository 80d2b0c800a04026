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
import type { ConflictRules } from './conflict-rules.ts';
import type { CollectionTable } from './definition.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';
import { shardOfKeySql } from './partition-sql.ts';

export type TriggerEvent = 'insert' | 'update' | 'delete' | 'truncate';
export const triggerEvents: readonly TriggerEvent[] = ['insert', 'update', 'delete', 'truncate'];

export const versionTable = (table: CollectionTable): string =>
  `pgquorum.${quoteName(`version_${table.collection}`)}`;
export const triggerFunctionName = (table: CollectionTable, event: TriggerEvent): string =>
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

function distinctKeysSql(table: CollectionTable, event: TriggerEvent): string {
  const touched = touchedKeys(table, event);
  return event === 'update'
    ? touched
    : `select distinct ${keyList(table, '')} from (${touched}) touched_rows`;
}

/** The texts of these key types depend on the session of whoever writes; pinned only where needed, since it costs something per statement. */
function textFormats(table: CollectionTable): string {
  const types = table.key.map((column) => column.type.split('.').at(-1)!.replaceAll('"', ''));
  return `${types.includes('date') ? ` set datestyle = 'ISO, YMD'` : ''}${types.includes('bytea') ? ' set bytea_output = hex' : ''}`;
}

export const shardSql = (table: CollectionTable, prefix: string): string =>
  shardOfKeySql(keyTextSql(table, prefix), table);

/**
 * Under which number a write is made, and the least time that it may have. What is usual is told by sequences, which are read without a query (migration
 * 21); a server that is not confirmed to be the database that the others remember, or whose clock is behind a purge horizon, asks the tables.
 */
const identityStatements = (
  table: CollectionTable,
): string => `  __own := pg_sequence_last_value('pgquorum.own');
  if __own >> 16 = ((date_part('epoch', pg_postmaster_start_time()) * 1000000)::bigint & 140737488355327) then __me := __own & 65535;
  else select n.number into strict __me from pgquorum.identity n; end if;
  __floor := (date_part('epoch', clock_timestamp()) * 1000)::bigint << 16;
  if __floor <= pg_sequence_last_value('pgquorum.floor') then
    select greatest(__floor, (n.floors ->> ${quoteText(table.collection)})::bigint) into __floor from pgquorum.node n;
  end if;
`;

const versionColumns =
  'rank, epoch, hlc, origin, counter, clock, seen, deleted, applied, shard, request, crdt';

/**
 * Whether a key has no row now; these functions ask as the table's owner. A key that was just written and has no row that the owner sees was
 * deleted again, or is hidden by row-level security that is forced on it: taken for deleted, it would be deleted on all other masters.
 */
function deletedSql(
  table: CollectionTable,
  event: Exclude<TriggerEvent, 'truncate'>,
  match: (row: string) => string,
): string {
  const target = quoteTable({ schema: table.schema, name: table.table });
  const written = event === 'update' ? ` and exists (select from new_rows r where ${match('r.')})` : '';
  const absent =
    event === 'delete'
      ? 'true'
      : `case when row_security_active(${quoteText(target)}::regclass)${written} then pgquorum.refuse_hidden(${quoteText(table.collection)}) else true end`;
  return `coalesce((select false from ${target} t where ${match('t.')}), ${absent})`;
}

/** Local variables of the functions, one for each key column. The underscores keep them apart from the user's columns. */
const oneNames = (table: CollectionTable): string[] => table.key.map((_, at) => `__key_${at}`);
const oneMatch = (table: CollectionTable, left: string): string =>
  table.key.map(({ name }, at) => `${left}${quoteName(name)} = __key_${at}`).join(' and ');

/** What an insert begins in a collection with CRDT fields (versioning/crdt/state.ts). */
const newLifeSql = (node: string, counter: string): string =>
  `jsonb_build_object(${node} || '.' || ${counter}, '{}'::jsonb)`;

/**
 * The usual statement touches one key: then its version is one plain insert or update. These find nothing to do, and leave the key to the bulk
 * statement, when there are more keys, when the row that was written is not there (any more), when a tombstone is in the way of an insert, when the key
 * has seen more than its version's clock (only such keys can have open conflicts), or when the sequence is behind.
 */
function oneKeyStatement(
  table: CollectionTable,
  event: Exclude<TriggerEvent, 'truncate'>,
  rules: ConflictRules,
): string {
  const version = versionTable(table);
  const target = quoteTable({ schema: table.schema, name: table.table });
  const others = `not exists (select from (${touchedKeys(table, event).replace(' union ', ' union all ')}) k where not (${oneMatch(table, 'k.')}))`;
  if (event === 'insert') {
    const names = oneNames(table);
    const hash = shardSql(
      { ...table, key: table.key.map((column, at) => ({ ...column, name: names[at]! })) },
      '',
    );
    return `insert into ${version} (${keyList(table, '')}, ${versionColumns})
    select ${names.join(', ')}, ${rules.models === undefined ? 0 : 'coalesce(__rank, 0)'}, 0, __floor, __me, __drawn, jsonb_build_object(__me, __drawn), null, false, false, ${hash}, __request,
      ${rules.strategy === 'crdt' ? newLifeSql('__me', '__drawn') : 'null'}
    from ${target} t where ${oneMatch(table, 't.')} and ${others}
    on conflict do nothing`;
  }
  const ranked = event === 'update' && rules.models !== undefined;
  const row = `${event === 'delete' ? 'not ' : ''}exists (select from ${target} t where ${oneMatch(table, 't.')})`;
  return `update ${version} v set hlc = greatest(__floor, v.hlc + 1), origin = __me, counter = __drawn,
      clock = v.clock || jsonb_build_object(__me, __drawn), deleted = ${event === 'delete'}, applied = false, request = __request${ranked ? ', rank = coalesce(__rank, v.rank)' : ''}
    where ${oneMatch(table, 'v.')} and v.seen is null and coalesce((v.clock ->> __me::text)::bigint, 0) < __drawn${ranked ? ' and (__rank is null or __rank >= v.rank)' : ''}${rules.strategy === 'crdt' ? ' and not v.deleted' : ''} and ${row} and ${others}`;
}

/** Siblings of the strategy vector-clock stay open, whatever is written over them, until a call resolves them. */
function supersedeOpen(table: CollectionTable, event: TriggerEvent, { strategy }: ConflictRules): string {
  if (strategy === 'vector-clock') return '';
  return `  -- Only what was seen beyond a version's clock can be an open loser of its key.
  if current_setting('pgquorum.seen_more', true) = 'on' then
    perform set_config('pgquorum.seen_more', 'off', true);
    update pgquorum.conflict c set state = 'superseded', state_hlc = __floor, state_origin = __me, applied = false
    from (${touchedKeys(table, event)}) k
    where c.collection = ${quoteText(table.collection)} and c.state = 'open' and c.key = ${keyTextSql(table, 'k.')};
  end if;`;
}

/** For any number of keys in any state. */
function bulkStatements(table: CollectionTable, event: TriggerEvent, rules: ConflictRules): string {
  const version = versionTable(table);
  const keys = keyList(table, '');
  // A truncate empties the table after this trigger, so every row that is there now is a tombstone then.
  const deleted =
    event === 'truncate' ? 'true' : deletedSql(table, event, (row) => keyMatch(table, row, 'k.'));
  const distinctKeys = distinctKeysSql(table, event);
  const ranked = rules.models !== undefined && (event === 'insert' || event === 'update');
  const lives = rules.strategy === 'crdt';
  const seenOwn = `coalesce((coalesce(v.seen, v.clock) ->> __me::text)::bigint, 0)`;
  return `  insert into ${version} as v (${keys}, ${versionColumns})
  select ${keyList(table, 'k.')}, ${ranked ? 'coalesce(__rank, 0)' : 0}, 0, __floor, __me, k.counter, jsonb_build_object(__me, k.counter), null, ${deleted}, false,
    ${shardSql(table, 'k.')}, __request, ${lives ? newLifeSql('__me', 'k.counter') : 'null'}
  from (select ${keys}, nextval('pgquorum.dot') as counter from (${distinctKeys} order by ${keys}) distinct_keys) k
  on conflict (${keys}) do update set
    hlc = greatest(excluded.hlc, v.hlc + 1),
    origin = __me,
    counter = case
      when excluded.counter > ${seenOwn} then excluded.counter
      when set_config('pgquorum.dot_behind', 'on', true) = 'on' then ${seenOwn} + 1 end,
    clock = coalesce(v.seen, v.clock) || excluded.clock,
    seen = ${rules.strategy === 'vector-clock' ? 'null' : `case when v.seen is not null and set_config('pgquorum.seen_more', 'on', true) is null then v.seen end`},
    deleted = excluded.deleted, applied = false, request = excluded.request${
      ranked
        ? `,
    rank = case when __rank is null then v.rank when __rank >= v.rank then __rank else pgquorum.refuse_model(${keyTextSql(table, 'v.')}, __rank, v.rank) end`
        : ''
    }${
      // An insert where a tombstone was takes the place of all lives that were seen here, unless it brings the deleted row back.
      lives
        ? `,
    crdt = case when v.deleted and not excluded.deleted and current_setting('pgquorum.revive', true) is distinct from 'on'
      then ${newLifeSql('__me', `greatest(excluded.counter, ${seenOwn} + 1)`)} else v.crdt end`
        : ''
    };
  -- Rare: the sequence was behind what a key had seen of our own counters. Draw anew for all keys, beyond every counter given.
  if current_setting('pgquorum.dot_behind', true) = 'on' then
    perform set_config('pgquorum.dot_behind', 'off', true);
    select max(v.counter) into __highest from ${version} v join (${distinctKeys}) k on ${keyMatch(table, 'v.', 'k.')};
    perform pgquorum.advance_dot(__highest);
    update ${version} v set counter = k.counter, clock = v.clock || jsonb_build_object(__me, k.counter)${
      lives
        ? `,
      crdt = case when v.crdt ? (__me || '.' || v.counter) then ${newLifeSql('__me', 'k.counter')} else v.crdt end`
        : ''
    }
    from (select ${keys}, nextval('pgquorum.dot') as counter from (${distinctKeys} order by ${keys}) distinct_keys) k
    where ${keyMatch(table, 'v.', 'k.')};
  end if;
${supersedeOpen(table, event, rules)}`;
}

/** Only in collections that say so: every statement pays for it. */
function refuseElsewhere(table: CollectionTable, event: TriggerEvent): string {
  if (table.nonHostWrites === undefined) return '';
  return `  perform pgquorum.refuse_elsewhere(${quoteText(table.collection)}, (select array_agg(distinct (${shardSql(table, 'k.')})::integer) from (${touchedKeys(table, event)}) k));\n`;
}

/** A write may name its embedding model; its rank is the model's place. */
function modelRank({ models }: ConflictRules): string {
  if (models === undefined) return '';
  return `  if __model is not null then
    __rank := array_position(array[${models.map(quoteText).join(', ')}], __model);
    if __rank is null then
      raise exception 'the collection does not list the model that the write names' using errcode = 'PQ010', hint = 'Append it to conflicts.models of the collection.';
    end if;
  end if;\n`;
}

/** Only sessions of `ownRole` may keep a write from being versioned, with the setting that apply uses. */
export function triggerFunction(
  table: CollectionTable,
  event: TriggerEvent,
  { rules, ownRole }: { readonly rules: ConflictRules; readonly ownRole: string },
): string {
  const collection = quoteText(table.collection);
  const isolation =
    event === 'truncate'
      ? `  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'truncate of a replicated table needs READ COMMITTED' using errcode = '25001', hint = 'An older snapshot does not show the rows that others wrote since: they would vanish without a tombstone.';
  end if;
  if row_security_active(${quoteText(quoteTable({ schema: table.schema, name: table.table }))}::regclass) then perform pgquorum.refuse_hidden(${collection}); end if;\n`
      : '';
  const oneKey =
    event === 'truncate'
      ? ''
      : `  select ${keyList(table, 'k.')} into ${oneNames(table).join(', ')} from ${event === 'delete' ? 'old_rows' : 'new_rows'} k;
  if not found then return null; end if;\n`;
  const versions =
    event === 'truncate'
      ? bulkStatements(table, event, rules)
      : `  __drawn := nextval('pgquorum.dot');
  ${oneKeyStatement(table, event, rules)};
  if not found then\n${bulkStatements(table, event, rules)}\n  end if;`;
  const models = event === 'insert' || event === 'update' ? modelRank(rules) : '';
  return `create or replace function ${triggerFunctionName(table, event)}() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off${textFormats(table)} as $body$
#variable_conflict use_column
declare
${table.key.map(({ type }, at) => `  __key_${at} ${type};\n`).join('')}  __drawn bigint;
  __request uuid;
  __own bigint;
  __me smallint;
  __floor bigint;
  __highest bigint;
${models === '' ? '' : "  __model text := nullif(current_setting('pgquorum.model', true), '');\n  __rank smallint;\n"}begin
  if current_setting('pgquorum.apply', true) = 'on' and session_user = ${quoteText(ownRole)} then return null; end if;
${models}${isolation}${oneKey}${identityStatements(table)}  __request := nullif(current_setting('pgquorum.request', true), '')::uuid;
${versions}
${refuseElsewhere(table, event)}  if __request is not null then
    insert into pgquorum.request (collection, key, request, origin, counter, hlc, clock)
    select ${collection}, ${keyTextSql(table, 'k.')}, __request, v.origin, v.counter, v.hlc, ${rules.strategy === 'crdt' ? 'v.clock' : 'null'}
    from (${distinctKeysSql(table, event)}) k, lateral (select v.origin, v.counter, v.hlc, v.clock from ${versionTable(table)} v where ${keyMatch(table, 'v.', 'k.')} offset 0) v
    on conflict do nothing;
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

/** The functions alone: what a change of the rules makes anew. */
export const triggerFunctions = (table: CollectionTable, rules: ConflictRules, ownRole: string): string[] =>
  triggerEvents.map((event) => triggerFunction(table, event, { rules, ownRole }));

/** The triggers of a table. */
export function triggerStatements(table: CollectionTable, rules: ConflictRules, ownRole: string): string[] {
  const target = quoteTable({ schema: table.schema, name: table.table });
  return triggerEvents.flatMap((event) => {
    const name = `pgquorum_${event}`;
    return [
      triggerFunction(table, event, { rules, ownRole }),
      `comment on function ${triggerFunctionName(table, event)}() is 'Versions what a statement did to the keys of collection ${table.collection}.'`,
      `revoke execute on function ${triggerFunctionName(table, event)}() from public`,
      `create trigger ${name} ${event === 'truncate' ? 'before' : 'after'} ${event} on ${target} ${transitionTables[event]}for each statement execute function ${triggerFunctionName(table, event)}()`,
      `alter table ${target} enable always trigger ${name}`,
    ];
  });
}
