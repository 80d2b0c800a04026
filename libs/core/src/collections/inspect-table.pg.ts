/** Reads what a node's catalog says about a table. One statement, so that all of it is of one moment. */
import type pg from 'pg';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import type { ExistingColumn, ExistingTable, NodeTable, TableName } from './existing-table.ts';
import { baseTypeNameSql } from './type-name.ts';

const collections = 'pgquorum.collection';
/** Of a database that is to become a node. */
const noCollections =
  '(select null::text as name, null::text as table_schema, null::text as table_name where false)';

const sequenceSql = `(select jsonb_build_object('schema', sn.nspname, 'name', sc.relname, 'tie', case found.tie when 'i' then 'identity' when 'a' then 'owned' else 'used' end,
    'type', format_type(s.seqtypid, null), 'increment', s.seqincrement::text, 'start', s.seqstart::text, 'min', s.seqmin::text, 'max', s.seqmax::text, 'cache', s.seqcache::text, 'cycle', s.seqcycle, 'position', null)
  from (
    select d.objid as oid, d.deptype as tie from pg_depend d where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype in ('a', 'i')
    union all
    select d.refobjid, 'n' from pg_attrdef f join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass where f.adrelid = a.attrelid and f.adnum = a.attnum
  ) found join pg_sequence s on s.seqrelid = found.oid join pg_class sc on sc.oid = s.seqrelid join pg_namespace sn on sn.oid = sc.relnamespace
  order by found.tie = 'n' limit 1)`;

const columnsSql = `(select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'baseType', ${baseTypeNameSql('t')}, 'isDomain', t.typtype = 'd',
    'send', nullif(t.typsend, 0)::text, 'modifier', a.atttypmod, 'notNull', a.attnotnull, 'default', case when a.attidentity = '' then pg_get_expr(f.adbin, f.adrelid) end, 'generated', a.attgenerated, 'identity', a.attidentity,
    'collation', (select jsonb_build_object('name', format('%I.%I', ln.nspname, l.collname), 'deterministic', l.collisdeterministic, 'isTypes', l.oid = t.typcollation) from pg_collation l join pg_namespace ln on ln.oid = l.collnamespace where l.oid = a.attcollation),
    'storage', case when a.attstorage <> t.typstorage then a.attstorage end, 'comment', col_description(a.attrelid, a.attnum), 'sequence', ${sequenceSql}) order by a.attnum), '[]')
  from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum
  where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped)`;

const foreignKeysSql = (side: 'conrelid' | 'confrelid'): string =>
  `(select coalesce(jsonb_agg(jsonb_build_object('name', k.conname, 'from', jsonb_build_object('schema', kn.nspname, 'name', kc.relname), 'to', jsonb_build_object('schema', tn.nspname, 'name', tc.relname),
     'definition', pg_get_constraintdef(k.oid), 'acts', k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd'),
     'bothReplicated', k.conrelid = k.confrelid or exists (select from ${collections} c where (c.table_schema, c.table_name) = (${side === 'conrelid' ? 'tn.nspname, tc.relname' : 'kn.nspname, kc.relname'}))) order by k.conname), '[]')
   from pg_constraint k join pg_class kc on kc.oid = k.conrelid join pg_namespace kn on kn.oid = kc.relnamespace join pg_class tc on tc.oid = k.confrelid join pg_namespace tn on tn.oid = tc.relnamespace
   where k.contype = 'f' and k.${side} = r.oid)`;

/** $1 schema, $2 table, $3 the mark by which the session's triggers are left out: 'R' where replication may switch the others off, else 'O'. */
const tableSql = `select jsonb_build_object(
  'schema', n.nspname, 'name', r.relname, 'kind', r.relkind, 'persistence', r.relpersistence, 'owner', pg_get_userbyid(r.relowner), 'isOwned', pg_has_role(r.relowner, 'usage'),
  'isPartition', r.relispartition, 'isInherited', exists (select from pg_inherits i where i.inhrelid = r.oid or i.inhparent = r.oid), 'replicaIdentity', r.relreplident,
  'hidesRows', r.relrowsecurity and row_security_active(r.oid), 'policies', (select count(*) from pg_policy p where p.polrelid = r.oid), 'rules', (select count(*) from pg_rewrite w where w.ev_class = r.oid and w.rulename <> '_RETURN'),
  'rowsEstimated', r.reltuples, 'columns', ${columnsSql},
  'key', (select jsonb_build_object('name', k.conname, 'deferrable', k.condeferrable, 'definition', pg_get_constraintdef(k.oid),
      'columns', (select jsonb_agg(a.attname order by c.ord) from unnest(k.conkey) with ordinality c(num, ord) join pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.num)) from pg_constraint k where k.conrelid = r.oid and k.contype = 'p'),
  'uniques', (select coalesce(jsonb_agg(jsonb_build_object('name', ic.relname, 'definition', coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(i.indexrelid))) order by ic.relname), '[]')
    from pg_index i join pg_class ic on ic.oid = i.indexrelid left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('u', 'x') where i.indrelid = r.oid and not i.indisprimary and (i.indisunique or i.indisexclusion)),
  'constraints', (select coalesce(jsonb_agg(jsonb_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid)) order by k.oid), '[]') from pg_constraint k where k.conrelid = r.oid and k.contype in ('u', 'x', 'c')),
  'indexes', (select coalesce(jsonb_agg(jsonb_build_object('name', ic.relname, 'definition', pg_get_indexdef(i.indexrelid)) order by i.indexrelid), '[]')
    from pg_index i join pg_class ic on ic.oid = i.indexrelid where i.indrelid = r.oid and i.indisvalid and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.conrelid = r.oid)),
  'foreignKeys', ${foreignKeysSql('conrelid')}, 'referencedBy', ${foreignKeysSql('confrelid')},
  'triggers', (select coalesce(jsonb_agg(g.tgname order by g.tgname), '[]') from pg_trigger g where g.tgrelid = r.oid and not g.tgisinternal and g.tgname not like 'pgquorum\\_%' and g.tgenabled in ('A', $3)),
  'triggersAll', (select count(*) from pg_trigger g where g.tgrelid = r.oid and not g.tgisinternal and g.tgname not like 'pgquorum\\_%'),
  'subscriptions', (select coalesce(jsonb_agg(b.subname order by b.subname), '[]') from pg_subscription_rel s join pg_subscription b on b.oid = s.srsubid where s.srrelid = r.oid),
  'collection', (select c.name from ${collections} c where c.table_schema = n.nspname and c.table_name = r.relname),
  'comment', obj_description(r.oid, 'pg_class'), 'options', coalesce(to_jsonb(r.reloptions), '[]'),
  'grants', (select coalesce(jsonb_agg(jsonb_build_object('role', case when x.grantee = 0 then null else pg_get_userbyid(x.grantee) end, 'privilege', x.privilege_type, 'grantable', x.is_grantable)), '[]') from aclexplode(r.relacl) x where x.grantee <> r.relowner)
) as found from pg_class r join pg_namespace n on n.oid = r.relnamespace where n.nspname = $1 and r.relname = $2`;

/** Must run in a transaction: it pins the search path, so that all that comes back is qualified. */
export async function inspectTable(client: pg.Client, node: string, name: TableName): Promise<NodeTable> {
  // The statement looks costly, and compiling it takes longer than running it.
  await client.query('set local search_path = pg_catalog; set local jit = off');
  const facts = await client.query<{ role: string; replica: boolean }>(
    `select current_user::text as role, coalesce((select rolsuper from pg_roles where rolname = current_user), false) or has_parameter_privilege(current_user, 'session_replication_role', 'set') as replica`,
  );
  const { role, replica } = facts.rows[0]!;
  const founded = await client.query<{ known: boolean }>(
    `select to_regclass('pgquorum.collection') is not null as known`,
  );
  const sql = founded.rows[0]!.known ? tableSql : tableSql.replaceAll(collections, noCollections);
  const found = await client.query<{ found: Omit<ExistingTable, 'hasRows'> }>(sql, [
    name.schema,
    name.name,
    replica ? 'R' : 'O',
  ]);
  const table = found.rows[0]?.found;
  return {
    node,
    role,
    replicaRole: replica,
    table:
      table === undefined
        ? null
        : {
            ...table,
            hasRows: await hasRows(client, table),
            columns: await withPositions(client, table),
          },
  };
}

/** Where the sequences of the key are: no function of the catalog tells it of one that was just set. */
async function withPositions(
  client: pg.Client,
  table: Omit<ExistingTable, 'hasRows'>,
): Promise<ExistingColumn[]> {
  const columns: ExistingColumn[] = [];
  for (const column of table.columns) {
    const { sequence } = column;
    if (sequence === null || !table.isOwned || !(table.key?.columns.includes(column.name) ?? false)) {
      columns.push(column);
      continue;
    }
    const at = await client.query<{ position: string }>(
      `select last_value::text as position from ${quoteTable(sequence)}`,
    );
    columns.push({ ...column, sequence: { ...sequence, position: at.rows[0]!.position } });
  }
  return columns;
}

/** False as well where it can not be read: that is refused for its own reason. */
async function hasRows(client: pg.Client, table: Omit<ExistingTable, 'hasRows'>): Promise<boolean> {
  if (table.kind !== 'r') return false;
  const allowed = await client.query<{ allowed: boolean }>(
    `select has_schema_privilege($1, 'usage') and has_table_privilege($2, 'select') as allowed`,
    [table.schema, quoteTable(table)],
  );
  if (!allowed.rows[0]!.allowed) return false;
  const rows = await client.query(`select from ${quoteTable(table)} limit 1`);
  return rows.rows.length > 0;
}

/** Which of these types and roles a node does not have. */
export async function missingHere(
  client: pg.Client,
  wanted: { readonly types: readonly string[]; readonly tables: readonly TableName[] },
): Promise<string[]> {
  const types = await client.query<{ name: string }>(
    'select t as name from unnest($1::text[]) t where to_regtype(t) is null',
    [wanted.types],
  );
  const tables = await client.query<{ name: string }>(
    'select t as name from unnest($1::text[]) t where to_regclass(t) is null',
    [wanted.tables.map((table) => `${quoteName(table.schema)}.${quoteName(table.name)}`)],
  );
  return [
    ...types.rows.map(({ name }) => `type ${name}`),
    ...tables.rows.map(({ name }) => `relation ${name}`),
  ];
}
