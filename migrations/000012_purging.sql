-- What purging tombstones needs in SQL. The rule, and what has to hold before a horizon is raised, is in libs/core/src/versioning/purge.ts.

create function pgquorum.clock_includes(clock jsonb, part jsonb) returns boolean
  language sql immutable strict parallel safe
  return not exists (select from jsonb_each_text(part) p where p.value::bigint > coalesce((clock ->> p.key)::bigint, 0));
comment on function pgquorum.clock_includes(jsonb, jsonb) is 'Whether every entry of `part` is within `clock`.';

create function pgquorum.clock_join(a jsonb, b jsonb) returns jsonb
  language sql immutable strict parallel safe
  return a || coalesce((select jsonb_object_agg(p.key, p.value::bigint) from jsonb_each_text(b) p where p.value::bigint > coalesce((a ->> p.key)::bigint, 0)), '{}');
comment on function pgquorum.clock_join(jsonb, jsonb) is 'The greater of each entry.';
