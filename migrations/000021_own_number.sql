-- The number and the floor that every write needs, read without a query: what a query costs is a fifth of versioning a single row.

create sequence pgquorum.own as bigint minvalue 0 start 0 cache 1;
comment on sequence pgquorum.own is 'The low 47 bits of the server start that is confirmed (microseconds since 1970), then 16 bits of the number of this node; 0 = ask pgquorum.identity.';
create sequence pgquorum.floor as bigint minvalue 0 start 0 cache 1;
comment on sequence pgquorum.floor is 'The highest purge horizon that there ever was, as an hlc: only writes under it have to ask for the one of their collection. May also be of one that was rolled back.';
select setval('pgquorum.floor', greatest(1, (select max(hlc) from pgquorum.horizon)));

create function pgquorum.packed_own(number smallint, started timestamptz) returns bigint
  language sql immutable set search_path = pg_catalog, pg_temp
  return (((date_part('epoch', started) * 1000000)::bigint & 140737488355327) << 16) | number;
comment on function pgquorum.packed_own(smallint, timestamptz) is 'The value of pgquorum.own for a number and the confirmed start of the server.';

-- Sequences know no transactions: what is noted is taken back while the row is still locked, by whoever changes it, and noted only of what is committed.
create function pgquorum.forget_own() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform setval('pgquorum.own', 0);
  return null;
end
$$;
comment on function pgquorum.forget_own() is 'The node has another number, or its start is confirmed or not any more: writes ask pgquorum.identity until this is noted.';
create trigger node_own after update of number, started on pgquorum.node for each row execute function pgquorum.forget_own();

create function pgquorum.note_own() returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  here pgquorum.node;
begin
  -- Waits for whoever is changing the row, and keeps it until the end of the transaction.
  select n.* into here from pgquorum.node n for share;
  if here.started is distinct from pg_postmaster_start_time() then return false; end if;
  if pg_sequence_last_value('pgquorum.own') is distinct from pgquorum.packed_own(here.number, here.started) then
    perform setval('pgquorum.own', pgquorum.packed_own(here.number, here.started));
  end if;
  return true;
end
$$;
comment on function pgquorum.note_own() is 'Notes the number of this node for its writes, when the start of the server is confirmed.';

create or replace function pgquorum.keep_floor() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  of_collection text := coalesce(new.collection, old.collection);
begin
  update pgquorum.node n set floors = (n.floors - of_collection)
    || coalesce((select jsonb_build_object(of_collection, max(h.hlc)) from pgquorum.horizon h where h.collection = of_collection having max(h.hlc) > 0), '{}');
  if new.hlc > coalesce(pg_sequence_last_value('pgquorum.floor'), 0) then perform setval('pgquorum.floor', new.hlc); end if;
  return null;
end
$$;
