-- Resync: what an edge has missed is copied, while its log is read again from a position that was noted before the copying began.

alter table pgquorum.source drop constraint source_state;
alter table pgquorum.source add constraint source_state check (state in ('creating', 'ready', 'resync'));
alter table pgquorum.source add column synced bigint not null default 0;
alter table pgquorum.source add column fed text not null default '';
comment on column pgquorum.source.synced is 'How often a position was noted anew: who found the one before lost has nothing to say about this one.';
comment on column pgquorum.source.fed is 'With Kafka: the generation of the capture that feeds the topic. Another one means that changes never came to the topic.';

create table pgquorum.resync (
  origin smallint not null,
  log text not null,
  reason text not null,
  phase text not null,
  collection text,
  shard integer,
  after_key jsonb,
  copied bigint not null default 0,
  written bigint not null default 0,
  refused bigint not null default 0,
  total bigint,
  started_at timestamptz not null default clock_timestamp(),
  constraint resync_pkey primary key (origin, log),
  constraint resync_phase check (phase in ('noting', 'copying'))
) with (fillfactor = 50);
comment on table pgquorum.resync is 'Edges into this node that are being mended: first a position is noted, then all states of the origin are copied. A row goes when all of it is here.';
comment on column pgquorum.resync.after_key is 'The copying goes on behind this key of this collection and shard.';
