create table pgquorum.shard_map (
  collection text not null,
  shard integer not null,
  epoch bigint not null,
  replicas text[] not null,
  next text[],
  constraint shard_map_pkey primary key (collection, shard),
  constraint shard_map_replicas check (cardinality(replicas) > 0 and cardinality(next) > 0),
  constraint shard_map_collection foreign key (collection) references pgquorum.collection (name) on delete cascade
);
comment on table pgquorum.shard_map is 'Which nodes hold each shard, of collections that not every node holds in full: this node''s copy, which only advances by epoch.';
comment on column pgquorum.shard_map.epoch is 'Round of the entry times 65536, plus the number of the node at which the change was proposed: two changes never have one epoch.';
comment on column pgquorum.shard_map.replicas is 'Names of nodes, the preferred one first.';
comment on column pgquorum.shard_map.next is 'What the replicas are going to be, while the shard moves.';

create function pgquorum.shard_of(key text, shards integer, definition jsonb) returns integer
  language sql immutable strict parallel safe
  return case when definition -> 'partitioning' is null then (pgquorum.key_hash(key) % shards)::integer
    else width_bucket(key collate "C", array(select p.point from jsonb_array_elements_text(definition -> 'partitioning' -> 'splitPoints') with ordinality p(point, place) order by p.place)) end;
comment on function pgquorum.shard_of(text, integer, jsonb) is 'The shard of a key''s canonical text in a collection of so many shards with this definition.';

-- Who writes a shard, or applies to it, holds its role until the end of the transaction: a change of the map waits for it, and what comes later sees the change.
create function pgquorum.check_shards(of_collection text, wanted integer[], epochs bigint[]) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform from pgquorum.shard_role r where r.collection = of_collection and r.shard = any(wanted) order by r.shard for share;
  if exists (select from unnest(wanted, epochs) w(shard, epoch)
      where not exists (select from pgquorum.shard_role r where r.collection = of_collection and r.shard = w.shard and r.role = 'replica' and r.epoch = coalesce(w.epoch, r.epoch))) then
    raise exception 'this node does not hold the shard under the epoch that was asked for' using errcode = 'PQ020';
  end if;
end
$$;
comment on function pgquorum.check_shards(text, integer[], bigint[]) is 'Refuses to go on unless this node is a replica of all these shards under these epochs (null = any), and stays one until the end of the transaction.';

create function pgquorum.refuse_elsewhere(of_collection text, wanted integer[]) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  elsewhere integer;
begin
  perform from pgquorum.shard_role r where r.collection = of_collection and r.shard = any(wanted) order by r.shard for share;
  select w.shard into elsewhere from unnest(wanted) w(shard)
    where not exists (select from pgquorum.shard_role r where r.collection = of_collection and r.shard = w.shard and r.role in ('replica', 'joining')) limit 1;
  if elsewhere is not null then
    raise exception 'shard % of collection % is not held by this node', elsewhere, of_collection using errcode = 'PQ021',
      hint = coalesce((select format('Write it on %s, or through the gateway.', array_to_string(m.replicas, ', ')) from pgquorum.shard_map m where m.collection = of_collection and m.shard = elsewhere), 'Write it through the gateway.');
  end if;
end
$$;
comment on function pgquorum.refuse_elsewhere(text, integer[]) is 'For collections with nonHostWrites refuse: refuses a write of shards that this node does not hold.';
