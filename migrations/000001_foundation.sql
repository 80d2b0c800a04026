-- The schema of one node. Every object lives in schema pgquorum; users' tables are left as they are.
-- Run by the migrator as pgquorum's own role, which owns the database and is no superuser.

create table pgquorum.node (
  only_row boolean not null default true,
  cluster text not null,
  name text not null,
  number smallint not null,
  spare smallint not null,
  zone text not null,
  log text not null,
  system_identifier text not null,
  timeline text not null,
  floors jsonb not null default '{}',
  founded_at timestamptz not null default clock_timestamp(),
  constraint node_pkey primary key (only_row),
  constraint node_only_row check (only_row),
  constraint node_number check (number > 0 and spare > 0 and number <> spare),
  constraint node_log check (log in ('wal', 'kafka'))
);
comment on table pgquorum.node is 'Identity of this node: the one row names the number under which its writes are counted.';
comment on column pgquorum.node.spare is 'The number that this node takes when it finds that it was restored, cloned or promoted.';
comment on column pgquorum.node.floors is 'Collection -> the highest purge horizon of its shards, as an hlc: no new write may be under it. Kept by a trigger of pgquorum.horizon.';
comment on column pgquorum.node.log is 'The change log that this cluster was founded with.';

create table pgquorum.member (
  number smallint not null,
  name text not null,
  zone text not null,
  spare boolean not null default false,
  retired boolean not null default false,
  constraint member_pkey primary key (number)
);
comment on table pgquorum.member is 'Numbers given out in this cluster, as this node knows them. A number is never reused.';

-- Counters of this node''s dots. No cache: a number handed out twice would name two writes alike.
create sequence pgquorum.dot as bigint minvalue 1 cache 1;
comment on sequence pgquorum.dot is 'Counters of the dots of this node. Only grows; no dot is used twice.';

create table pgquorum.collection (
  name text not null,
  table_schema text not null,
  table_name text not null,
  key_columns text[] not null,
  definition jsonb not null,
  shards integer not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint collection_pkey primary key (name),
  constraint collection_table unique (table_schema, table_name),
  constraint collection_shards check (shards > 0)
);
comment on table pgquorum.collection is 'The collections of this node: their table, key and definition.';

create table pgquorum.horizon (
  collection text not null,
  shard integer not null,
  hlc bigint not null,
  clock jsonb not null default '{}',
  constraint horizon_pkey primary key (collection, shard)
);
comment on table pgquorum.horizon is 'Purge horizon of a shard: versions under it whose key is absent have been purged. No new write may be under it.';

-- Every write of a user needs the floor, and reads it with the node's number instead of with a statement of its own.
create function pgquorum.keep_floor() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  of_collection text := coalesce(new.collection, old.collection);
begin
  update pgquorum.node n set floors = (n.floors - of_collection)
    || coalesce((select jsonb_build_object(of_collection, max(h.hlc)) from pgquorum.horizon h where h.collection = of_collection having max(h.hlc) > 0), '{}');
  return null;
end
$$;
comment on function pgquorum.keep_floor() is 'Keeps pgquorum.node.floors in step with the purge horizons.';
create trigger horizon_floor after insert or update or delete on pgquorum.horizon for each row execute function pgquorum.keep_floor();

create table pgquorum.shard_role (
  collection text not null,
  shard integer not null,
  role text not null default 'replica',
  epoch bigint not null default 1,
  constraint shard_role_pkey primary key (collection, shard),
  constraint shard_role_role check (role in ('replica', 'joining', 'leaving', 'none')),
  constraint shard_role_collection foreign key (collection) references pgquorum.collection (name) on delete cascade
);
comment on table pgquorum.shard_role is 'What this node is for each shard, with the epoch that is checked in every applying transaction.';

create table pgquorum.conflict (
  id uuid not null,
  collection text not null,
  key text not null,
  key_texts jsonb not null,
  shard integer not null,
  kind text not null,
  loser_rank smallint not null,
  loser_epoch bigint not null,
  loser_hlc bigint not null,
  loser_origin smallint not null,
  loser_counter bigint not null,
  loser_clock jsonb not null,
  loser_deleted boolean not null,
  loser_request uuid,
  loser_crdt jsonb,
  loser_row jsonb,
  winner_hlc bigint not null,
  winner_origin smallint not null,
  winner_counter bigint not null,
  state text not null,
  state_hlc bigint not null,
  state_origin smallint not null,
  decided_by text not null,
  reason text not null,
  applied boolean not null,
  found_at timestamptz not null default clock_timestamp(),
  constraint conflict_pkey primary key (id),
  constraint conflict_dot unique (collection, key, loser_origin, loser_counter),
  constraint conflict_state check (state in ('open', 'superseded', 'resolved', 'restored')),
  constraint conflict_kind check (kind in ('update-update', 'update-delete', 'delete-update', 'delete-delete', 'insert-insert', 'returned', 'replaced'))
);
create index conflict_open on pgquorum.conflict (collection, key) where state = 'open';
create index conflict_listing on pgquorum.conflict (found_at desc, id);
comment on table pgquorum.conflict is 'Concurrent writes that lost, with their rows: a replicated set by (collection, key, loser''s dot) whose state only advances.';
comment on column pgquorum.conflict.loser_row is 'The losing row: column name to text form; null for a losing delete.';
comment on column pgquorum.conflict.applied is 'True when replication wrote this state of the record; such rows are not published again.';

create table pgquorum.request (
  collection text not null,
  key text not null,
  request uuid not null,
  origin smallint not null,
  counter bigint not null,
  hlc bigint not null,
  at timestamptz not null default clock_timestamp(),
  constraint request_pkey primary key (collection, key, request, origin, counter)
);
create index request_at on pgquorum.request (at);
comment on table pgquorum.request is 'Gateway requests by key, remembered for a time: two dots of one key with one request are one write.';

create table pgquorum.gateway_request (
  request uuid not null,
  body_hash text not null,
  at timestamptz not null default clock_timestamp(),
  constraint gateway_request_pkey primary key (request)
);
create index gateway_request_at on pgquorum.gateway_request (at);
comment on table pgquorum.gateway_request is 'Idempotency keys seen by this node with the hash of their body: reuse with another body is refused.';

create table pgquorum.source (
  origin smallint not null,
  log text not null,
  state text not null,
  slot text,
  publication oid,
  generation text not null,
  lanes integer not null default 1,
  problem text,
  problem_since timestamptz,
  seen_at timestamptz,
  constraint source_pkey primary key (origin, log),
  constraint source_state check (state in ('creating', 'ready'))
);
comment on table pgquorum.source is 'The change logs that this node reads, one row per origin, with what identifies them: a slot or topic of the same name may be another one.';
comment on column pgquorum.source.lanes is 'Number of lanes that the rows of progress are complete with.';
comment on column pgquorum.source.problem is 'Why nothing is applied from there at the moment; null when all is well.';

create table pgquorum.progress (
  origin smallint not null,
  log text not null,
  stream integer not null,
  lane integer not null,
  position bigint not null,
  commit_time timestamptz,
  changes bigint not null default 0,
  constraint progress_pkey primary key (origin, log, stream, lane)
) with (fillfactor = 50);
comment on table pgquorum.progress is 'How far each lane has applied each stream; written in the transaction that applied it.';

create table pgquorum.heartbeat (
  number smallint not null,
  at timestamptz not null,
  constraint heartbeat_pkey primary key (number)
) with (fillfactor = 50);
comment on table pgquorum.heartbeat is 'Signs of life of this node, published so that an idle edge shows its true lag.';

create table pgquorum.pulse (
  at timestamptz not null,
  dot bigint not null,
  constraint pulse_pkey primary key (at)
);
comment on table pgquorum.pulse is 'How far this node''s dots were at each heartbeat of the last hour: tells how many changes a peer is behind.';

create table pgquorum.parked (
  id bigint generated always as identity,
  origin smallint not null,
  collection text not null,
  key text not null,
  payload bytea not null,
  at timestamptz not null default clock_timestamp(),
  constraint parked_pkey primary key (id)
);
create index parked_collection on pgquorum.parked (collection, origin, id);
comment on table pgquorum.parked is 'Changes that wait because their collection is paused here. Merging is commutative, so they are applied whenever it goes on.';

create table pgquorum.pause (
  collection text not null,
  origin smallint not null,
  code text not null,
  sqlstate text,
  reason text not null,
  since timestamptz not null default clock_timestamp(),
  constraint pause_pkey primary key (collection, origin)
);
comment on table pgquorum.pause is 'Collections whose changes of an origin are parked, with the reason.';

create table pgquorum.dead_letter (
  id bigint generated always as identity,
  origin smallint not null,
  log text not null,
  stream integer not null,
  position bigint,
  collection text not null,
  key text not null,
  sqlstate text,
  message text not null,
  payload bytea not null,
  at timestamptz not null default clock_timestamp(),
  constraint dead_letter_pkey primary key (id)
);
comment on table pgquorum.dead_letter is 'Changes that can not be applied here, with position and payload, for inspection and replay.';

-- Pure functions -------------------------------------------------------------------------------------------------------------------

create function pgquorum.key_hash(key text) returns bigint
  language sql immutable strict parallel safe
  return ('x' || encode(substr(sha256(convert_to(key, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint;
comment on function pgquorum.key_hash(text) is 'First 32 bits of sha256 of a key''s canonical text. The gateway computes the same.';

create function pgquorum.key_text(variadic texts text[]) returns text
  language sql immutable strict parallel safe
  return case when cardinality(texts) = 1 then texts[1] else array_to_json(texts)::text end;
comment on function pgquorum.key_text(text[]) is 'A key as one text: itself when single, else the JSON array of its texts.';

create function pgquorum.now_hlc() returns bigint
  language sql volatile parallel safe
  return (extract(epoch from clock_timestamp()) * 1000)::bigint << 16;
comment on function pgquorum.now_hlc() is 'The wall clock as a hybrid logical clock value.';

-- The trigger''s rare path: a key has seen a counter of ours that the sequence has not reached (a sequence that went back). Sets the sequence
-- forward under a lock, since two sessions that set it at once could set it back.
create function pgquorum.advance_dot(at_least bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_advisory_lock(7308895164427563361);
  perform setval('pgquorum.dot', at_least) where at_least > (select last_value from pgquorum.dot);
  perform pg_advisory_unlock(7308895164427563361);
end
$$;
comment on function pgquorum.advance_dot(bigint) is 'Sets the sequence of dots forward to at least this counter.';
revoke execute on function pgquorum.advance_dot(bigint) from public;

create function pgquorum.refuse_model(key text, named smallint, present smallint) returns smallint
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'key % has an embedding of a later model (place %) than the one named (place %)', key, present, named using errcode = 'PQ011', hint = 'Embed with the later model, or write under another key.';
end
$$;
comment on function pgquorum.refuse_model(text, smallint, smallint) is 'Refuses a write that would lower a key''s rank.';

create publication pgquorum for table pgquorum.heartbeat, pgquorum.conflict with (publish = 'insert, update');
