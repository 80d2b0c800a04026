/** Names of column types as replication compares them between masters. Pure. */

/** SQL: the type's name without its schema; of a domain, that of the type under it, as the replication protocol announces it. */
export const baseTypeNameSql = (alias: string): string =>
  `(with recursive under as (
     select ${alias}.typname as name, ${alias}.typtype as kind, ${alias}.typbasetype as base
     union all select b.typname, b.typtype, b.typbasetype from under join pg_type b on b.oid = under.base
   ) select u.name::text from under u where u.kind <> 'd')`;
