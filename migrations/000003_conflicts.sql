-- The conflict log as a surface: one more kind, indexes for its filters, and what happens to records as events in the order in which this node
-- came to know of it.

alter table pgquorum.conflict drop constraint conflict_kind;
alter table pgquorum.conflict add constraint conflict_kind check (kind in ('update-update', 'update-delete', 'delete-update', 'delete-delete', 'insert-insert', 'model-guard', 'returned', 'replaced'));
comment on column pgquorum.conflict.kind is 'What met: winner and loser, or model-guard when their models differ in rank; returned for a write from under the purge horizon; replaced for what a restore wrote over.';

create index conflict_by_collection on pgquorum.conflict (collection, found_at desc, id);
create index conflict_by_state on pgquorum.conflict (state, found_at desc, id);
create index conflict_by_kind on pgquorum.conflict (kind, found_at desc, id);
create index conflict_closed on pgquorum.conflict (state_hlc, id) where state <> 'open';
create index conflict_by_origin on pgquorum.conflict (loser_origin, found_at desc, id);

-- Numbers of a sequence become visible in another order than they were drawn in. Whoever reads by (xid, arrival), and only what is older than every
-- transaction that still runs, misses nothing.
create table pgquorum.event (
  xid xid8 not null default pg_current_xact_id(),
  arrival bigint generated always as identity,
  at timestamptz not null default clock_timestamp(),
  type text not null,
  body jsonb not null,
  constraint event_pkey primary key (xid, arrival)
);
create index event_at on pgquorum.event (at);
comment on table pgquorum.event is 'What happened, as this node came to know of it; streamed by gateways, forgotten after a time, never replicated.';

create table pgquorum.event_forgotten (
  only_row boolean not null default true,
  xid xid8 not null,
  arrival bigint not null,
  at timestamptz not null,
  constraint event_forgotten_pkey primary key (only_row),
  constraint event_forgotten_only_row check (only_row)
);
comment on table pgquorum.event_forgotten is 'The last event that was forgotten here: streams can be resumed from there on.';
insert into pgquorum.event_forgotten (xid, arrival, at) values ('0', 0, '-infinity');

-- Whoever has rights on the table fires it: users'' triggers supersede records with the rights of pgquorum''s role.
create function pgquorum.conflict_event() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into pgquorum.event (type, body) values ('conflict', jsonb_build_object(
    'happened', case when tg_op = 'INSERT' then 'found' else new.state end,
    'conflictId', new.id, 'collection', new.collection, 'key', new.key, 'kind', new.kind, 'state', new.state, 'stateOrigin', new.state_origin));
  return null;
end
$$;
comment on function pgquorum.conflict_event() is 'An event for each record that is found here and each state that it reaches.';
revoke execute on function pgquorum.conflict_event() from public;
-- What a restore writes over is told by the restore.
create trigger conflict_found after insert on pgquorum.conflict for each row when (new.kind <> 'replaced') execute function pgquorum.conflict_event();
create trigger conflict_advanced after update on pgquorum.conflict for each row
  when (new.state is distinct from old.state or new.state_hlc is distinct from old.state_hlc) execute function pgquorum.conflict_event();
-- Apply writes records with the triggers of users switched off.
alter table pgquorum.conflict enable always trigger conflict_found;
alter table pgquorum.conflict enable always trigger conflict_advanced;
