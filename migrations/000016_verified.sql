-- Continuous verification: what a node has compared, and how far purging is with it (libs/core/src/versioning/purge.ts).

create table pgquorum.verified (
  collection text not null,
  shard integer not null,
  at timestamptz not null,
  complete boolean not null,
  differences bigint not null default 0,
  rounds jsonb,
  constraint verified_pkey primary key (collection, shard),
  constraint verified_collection foreign key (collection) references pgquorum.collection (name) on delete cascade
) with (fillfactor = 70);
comment on table pgquorum.verified is 'Shards that this node''s replicator has compared on all nodes.';
comment on column pgquorum.verified.complete is 'Whether all nodes were there and ended equal.';
comment on column pgquorum.verified.differences is 'Found since the collection was made.';
comment on column pgquorum.verified.rounds is 'The rounds by which the purge horizon of the shard rises.';
