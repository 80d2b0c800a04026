-- Conflict records of a table that has got more columns: the row that lost has them too, as rows that stood in the table have them. Otherwise a record that was
-- made before the column came and the same record on a master that had the column already would differ for ever.

create function pgquorum.completed_row(collection text, loser jsonb) returns jsonb
  language plpgsql set search_path = pg_catalog, pg_temp as $body$
declare
  relation regclass;
  lacking record;
  value text;
begin
  if loser is null then return null; end if;
  select to_regclass(format('%I.%I', c.table_schema, c.table_name)) into relation from pgquorum.collection c where c.name = completed_row.collection;
  if relation is null then return loser; end if;
  -- A column that is being added is waited for, and the next one waits for this transaction: a record is either complete, or seen by who completes those that are there.
  execute format('lock table %s in access share mode', relation);
  for lacking in
    select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.atthasmissing as stood, (a.attmissingval::text::text[])[1] as standing,
      a.attnotnull as required, pg_get_expr(d.adbin, d.adrelid) as given
    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = '' and not loser ? a.attname
    order by a.attnum
  loop
    if lacking.stood then
      value := lacking.standing;
    elsif lacking.given is null then
      continue when lacking.required;
      value := null;
    else
      -- Constants alone: any other default is another one for each row, and on each master.
      continue when lacking.given !~* $re$^\(?(?:-?\d[\d.]*|true|false|null|e?'(?:[^']|'')*'|array\[\])\)?(?:::[\w ."()\[\],]+)*$$re$;
      execute format('select case when d.v is null then null else format(''%%s'', d.v) end from (select (%s)::%s as v) d', lacking.given, lacking.type) into value;
    end if;
    loser := loser || jsonb_build_object(lacking.name, value);
  end loop;
  return loser;
end
$body$;
comment on function pgquorum.completed_row(text, jsonb) is 'The row of a conflict record with the columns that its table has got since, as they were given to rows that stood there. Columns that are gone stay.';
revoke execute on function pgquorum.completed_row(text, jsonb) from public;

create function pgquorum.complete_record() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  new.loser_row := pgquorum.completed_row(new.collection, new.loser_row);
  return new;
end
$$;
comment on function pgquorum.complete_record() is 'Gives a record the columns that its row did not bring.';
revoke execute on function pgquorum.complete_record() from public;
create trigger conflict_completed before insert on pgquorum.conflict for each row when (new.loser_row is not null) execute function pgquorum.complete_record();
alter table pgquorum.conflict enable always trigger conflict_completed;

create table pgquorum.record_shape (
  collection text not null,
  columns text[] not null,
  constraint record_shape_pkey primary key (collection)
);
comment on table pgquorum.record_shape is 'The table and columns for which the conflict records of a collection were last completed here.';
