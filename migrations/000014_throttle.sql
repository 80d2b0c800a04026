-- How fast edges may read: set at run time, the same on all nodes once they can be reached.

create table pgquorum.throttle (
  only_row boolean not null default true,
  bytes_per_second bigint,
  total_bytes_per_second bigint,
  revision bigint not null,
  setter uuid not null,
  set_by text not null,
  set_at timestamptz not null default clock_timestamp(),
  constraint throttle_pkey primary key (only_row),
  constraint throttle_only_row check (only_row)
);
comment on table pgquorum.throttle is 'The limits on what edges read, null = none. Of the nodes'' rows the one with the greatest (revision, setter) is true. No row = as the settings say.';
