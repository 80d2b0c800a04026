-- Identity: which database this is. A number belongs to one history of writes; a database that was restored, cloned or promoted goes on under another one.

alter table pgquorum.node drop constraint node_number;
alter table pgquorum.node alter column spare drop not null;
alter table pgquorum.node add constraint node_number check (number > 0 and (spare is null or spare > 0 and number <> spare));
alter table pgquorum.node add column started timestamptz;
alter table pgquorum.node add column former smallint;
alter table pgquorum.node add column identity_problem text;
update pgquorum.node set started = pg_postmaster_start_time();
comment on column pgquorum.node.spare is 'The number that this node takes when it finds that it was restored, cloned or promoted; null until it has another one.';
comment on column pgquorum.node.former is 'The number before, while what was written under it is being looked through.';
comment on column pgquorum.node.identity_problem is 'Why it is not known whether this is the database that the other nodes remember.';
comment on column pgquorum.node.started is 'The start of the server since which a replicator has found this to be the database that the other nodes remember.';

create table pgquorum.token (
  token uuid not null,
  at timestamptz not null default clock_timestamp(),
  constraint token_pkey primary key (token)
);
comment on table pgquorum.token is 'What this node has told others to remember of it: a copy of it that is older than what they remember lacks the last one.';

create table pgquorum.remembered (
  name text not null,
  number smallint not null,
  token uuid not null,
  lsn bigint not null,
  at timestamptz not null default clock_timestamp(),
  constraint remembered_pkey primary key (name)
) with (fillfactor = 50);
comment on table pgquorum.remembered is 'What this node remembers of the others: their last token and the end of their WAL.';

-- Not rolled back with the write that notes them, and seen by all at once: where the writes began that nobody has confirmed.
create sequence pgquorum.unconfirmed_lsn as bigint minvalue 0 start 0 cache 1;
comment on sequence pgquorum.unconfirmed_lsn is 'The end of the WAL before the first write since a server start that was not confirmed.';
create sequence pgquorum.unconfirmed_us as bigint minvalue 0 start 0 cache 1;
comment on sequence pgquorum.unconfirmed_us is 'The start of that server, microseconds since 1970; 0, or the start that was confirmed last = nothing is unconfirmed.';

create function pgquorum.server_start_us() returns bigint
  language sql stable set search_path = pg_catalog, pg_temp
  return (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint;
comment on function pgquorum.server_start_us() is 'When this server was started, microseconds since 1970.';

-- Writes go on while a start is not confirmed, but leave the node only afterwards. Only another timeline is known for sure from inside: then the spare number
-- is used from the first write on. What an earlier unconfirmed start has noted stays. A statement may be older than the confirmation: it then finds
-- this very start noted, or notes it, and neither means anything any more.
create function pgquorum.unconfirmed_number(number smallint, spare smallint, timeline text, confirmed timestamptz) returns smallint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  here constant bigint := pgquorum.server_start_us();
  settled constant bigint := coalesce((extract(epoch from confirmed) * 1000000)::bigint, 0);
begin
  if (select last_value in (0, settled) from pgquorum.unconfirmed_us) and here <> settled then
    perform pg_advisory_lock(7308895164427563362);
    if (select last_value in (0, settled) from pgquorum.unconfirmed_us) then
      perform setval('pgquorum.unconfirmed_lsn', (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint);
      perform setval('pgquorum.unconfirmed_us', here);
    end if;
    perform pg_advisory_unlock(7308895164427563362);
  end if;
  if timeline = substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) then return number; end if;
  if spare is null then
    raise exception 'this server was promoted or restored, and the node has no spare number to write under' using errcode = 'PQ012', hint = 'A replicator that reaches all nodes gives it one.';
  end if;
  return spare;
end
$$;
comment on function pgquorum.unconfirmed_number(smallint, smallint, text, timestamptz) is 'Notes where unconfirmed writes began, and says under which number they are to be made.';
revoke execute on function pgquorum.unconfirmed_number(smallint, smallint, text, timestamptz) from public;

create view pgquorum.identity as
  select case when n.started = pg_postmaster_start_time() then n.number else pgquorum.unconfirmed_number(n.number, n.spare, n.timeline, n.started) end as number, n.floors
  from pgquorum.node n;
comment on view pgquorum.identity is 'The number that writes are made under now: asked by whatever draws a dot.';

-- What draws dots asks there: the triggers of collections that are here already, and the operations on CRDT fields.
do $$
declare
  definition text;
begin
  for definition in
    select pg_get_functiondef(p.oid) from pg_proc p
    where p.pronamespace = 'pgquorum'::regnamespace and p.prokind = 'f' and p.prosrc like '%pgquorum.node n%' and p.prosrc like '%nextval(''pgquorum.dot'')%'
  loop
    execute replace(definition, 'pgquorum.node n', 'pgquorum.identity n');
  end loop;
end
$$;
