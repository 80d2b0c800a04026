-- Long work that somebody asked for: run by the replicators of the node where it was asked for, kept for a time so that its result can be read.

create table pgquorum.job (
  id uuid not null default gen_random_uuid(),
  kind text not null,
  arguments jsonb not null,
  state text not null default 'waiting',
  cancel_requested boolean not null default false,
  progress jsonb not null,
  checkpoint jsonb,
  result jsonb,
  error jsonb,
  failures integer not null default 0,
  failing_since timestamptz,
  deaths integer not null default 0,
  due_at timestamptz not null default clock_timestamp(),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  constraint job_pkey primary key (id),
  constraint job_state check (state in ('waiting', 'running', 'done', 'failed', 'cancelled'))
);
create index job_unfinished on pgquorum.job (created_at, id) where state in ('waiting', 'running');
create index job_listing on pgquorum.job (created_at desc, id);
create index job_finished on pgquorum.job (updated_at, id) where state in ('done', 'failed', 'cancelled');
comment on table pgquorum.job is 'Long work asked for at this node, its home: run by one of its replicators at a time, under an advisory lock that goes with the runner.';
comment on column pgquorum.job.checkpoint is 'From where the work goes on when its runner has died; only the work knows what it means.';
comment on column pgquorum.job.error is 'Code and detail of what ended it, or of what it waits for to pass.';
comment on column pgquorum.job.failures is 'Failures in a row that may pass by themselves, and since when: both begin anew with a new checkpoint.';
comment on column pgquorum.job.deaths is 'Runners that went without a word since the last new checkpoint.';
comment on column pgquorum.job.due_at is 'Not run before: the pause after a failure.';
