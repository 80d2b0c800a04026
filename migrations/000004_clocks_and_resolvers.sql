-- What each node keeps of its own about clocks and about resolvers. Neither is replicated.

create table pgquorum.clock_view (
  only_row boolean not null default true,
  found jsonb not null,
  at timestamptz not null,
  constraint clock_view_pkey primary key (only_row),
  constraint clock_view_only_row check (only_row)
) with (fillfactor = 50);
comment on table pgquorum.clock_view is 'How far the clocks of all nodes are apart, as a replicator of this node has found: node number -> [offset, round trip] in ms. Only differences mean anything.';

alter table pgquorum.conflict add column attempt jsonb;
comment on column pgquorum.conflict.attempt is 'The last time that a resolver failed here, and why: {at, resolver, version, error, tries}. This node''s own; never replicated.';
