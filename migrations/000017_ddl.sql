-- Statements that were run on all masters: written in the transaction of the statement, so that a repetition knows where it stands.

create table pgquorum.ddl (
  job uuid not null,
  collection text not null,
  statement text not null,
  at timestamptz not null default clock_timestamp(),
  constraint ddl_pkey primary key (job)
);
comment on table pgquorum.ddl is 'Statements by which tables of collections were altered here and on all other masters.';
