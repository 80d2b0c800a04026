-- What this node has told last of the states of replicas and edges: a change of them is told once, whoever watches and however often it is restarted.

create table pgquorum.watched (
  kind text not null,
  origin smallint not null,
  target smallint not null,
  state text not null,
  since timestamptz not null default clock_timestamp(),
  constraint watched_pkey primary key (kind, origin, target)
);
comment on table pgquorum.watched is 'States of replicas (origin = target) and edges as the events of this node have told them.';
