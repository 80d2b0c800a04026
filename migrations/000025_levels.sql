-- Writes and reads at QUORUM and ALL: what a node checks before it may count as one of the replicas that were asked.

create function pgquorum.check_holders(of_collection text, wanted integer[], epochs bigint[]) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform from pgquorum.shard_role r where r.collection = of_collection and r.shard = any(wanted) order by r.shard for share;
  if exists (select from unnest(wanted, epochs) w(shard, epoch)
      where not exists (select from pgquorum.shard_role r where r.collection = of_collection and r.shard = w.shard and r.role in ('replica', 'joining') and r.epoch = w.epoch)) then
    raise exception 'this node does not hold the shard under the epoch that was asked for' using errcode = 'PQ020';
  end if;
end
$$;
comment on function pgquorum.check_holders(text, integer[], bigint[]) is 'Refuses to go on unless this node holds all of these shards, or is being filled with them, under just these epochs, and does so until the end of the transaction.';

create function pgquorum.check_members(names text[]) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  -- Shared by those who count on the members, alone for who changes them: cheaper than a lock on rows that every write would take.
  perform pg_advisory_xact_lock_shared(hashtextextended('pgquorum members', 0));
  if names is distinct from (select array_agg(distinct m.name collate "C" order by m.name collate "C") from pgquorum.member m where not m.retired) then
    raise exception 'the members of the cluster are others than was asked for' using errcode = 'PQ020';
  end if;
end
$$;
comment on function pgquorum.check_members(text[]) is 'Refuses to go on unless these are the members as this node knows them, in order of their bytes, and keeps them until the end of the transaction.';

create function pgquorum.hold_members() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('pgquorum members', 0));
  return null;
end
$$;
comment on function pgquorum.hold_members() is 'Who changes the members waits for those who count on them.';

create trigger hold_members before insert or update or delete on pgquorum.member
  for each statement execute function pgquorum.hold_members();
