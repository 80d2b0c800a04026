-- CRDT fields: what operations make of a key's state, and the functions by which SQL clients carry them out. The pure part does what
-- libs/core/src/versioning/crdt does, where its rules are explained; a test holds the two to each other.
-- Errors have SQLSTATEs of their own: PQ001 no such collection, PQ002 no such row, PQ003 no such field, PQ004 an operation that the field's
-- type does not have, PQ005 a value that can not be used, PQ006 beyond a limit, PQ007 a row without a version.

-- Pure functions -------------------------------------------------------------------------------------------------------------------

create function pgquorum.crdt_element(value jsonb) returns text
  language sql immutable parallel safe set search_path = pg_catalog, pg_temp
  return case jsonb_typeof(value)
    when 'string' then case when octet_length(value::text) <= 1024 then value::text end
    when 'boolean' then value::text
    when 'number' then case when abs(value::numeric) <= 9007199254740991 and value::numeric = trunc(value::numeric) then value::bigint::text end
  end;
comment on function pgquorum.crdt_element(jsonb) is 'The text under which an or-set keeps an element; null when the value can not be one.';

create function pgquorum.crdt_plain(value jsonb) returns jsonb
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp set extra_float_digits = 1 as $$
declare
  number numeric;
begin
  if not jsonb_path_exists(value, 'strict $.** ? (@.type() == "number")') then return value; end if;
  case jsonb_typeof(value)
    when 'array' then
      return (select jsonb_agg(pgquorum.crdt_plain(e.part) order by e.place) from jsonb_array_elements(value) with ordinality e(part, place));
    when 'object' then
      return (select jsonb_object_agg(e.name, pgquorum.crdt_plain(e.part)) from jsonb_each(value) e(name, part));
    else
      number := trim_scale(value::numeric);
      if number = trunc(number) and abs(number) <= 9007199254740991 then return to_jsonb(number); end if;
      -- Outside of these the cast fails.
      if abs(number) between 4.95e-324 and 1.7976931348623157e308 and number::double precision::text::numeric = number then
        return to_jsonb(number);
      end if;
      raise exception 'the value has a number of more digits than a double holds' using errcode = 'PQ005';
  end case;
end
$$;
comment on function pgquorum.crdt_plain(jsonb) is 'A JSON value with its numbers as short as they can be. Refuses those that are no double: they would change on their way through other masters.';

create function pgquorum.crdt_put(target jsonb, path text[], value jsonb) returns jsonb
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
begin
  for depth in 1 .. cardinality(path) - 1 loop
    if target #> path[1:depth] is null then target := jsonb_set(target, path[1:depth], '{}'); end if;
  end loop;
  return jsonb_set(target, path, value);
end
$$;
comment on function pgquorum.crdt_put(jsonb, text[], jsonb) is 'An object with a value set at a path, whose objects are made where they are missing.';

create function pgquorum.crdt_cut(target jsonb, path text[]) returns jsonb
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
begin
  loop
    target := target #- path;
    path := trim_array(path, 1);
    exit when cardinality(path) <= 1 or target #> path is distinct from '{}';
  end loop;
  return target;
end
$$;
comment on function pgquorum.crdt_cut(jsonb, text[]) is 'An object without what is at a path, and without what that leaves empty below the first step: equal states are equal JSON.';

create function pgquorum.crdt_check(fields jsonb, operations jsonb) returns void
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  field text;
  operation jsonb;
  type text;
  verb text;
  value jsonb;
  problem text;
begin
  if jsonb_typeof(operations) is distinct from 'object' or operations = '{}' then
    raise exception 'crdt: must be an object, field name to operation' using errcode = 'PQ005';
  end if;
  for field, operation in select o.key, o.value from jsonb_each(operations) o order by o.key collate "C" loop
    type := fields ->> field;
    if type is null then
      raise exception 'crdt.%: the collection declares no such field', left(field, 80) using errcode = 'PQ003', column = field;
    end if;
    verb := null;
    if jsonb_typeof(operation) = 'object' and (select count(*) from jsonb_object_keys(operation)) = 1 then
      select o.key, o.value into verb, value from jsonb_each(operation) o;
    end if;
    if not coalesce(verb = any (case type
      when 'g-counter' then array['increment'] when 'pn-counter' then array['increment', 'decrement']
      when 'lww-register' then array['set'] when 'or-set' then array['add', 'remove'] end), false) then
      raise exception 'crdt.%: not an operation of a %', field, type using errcode = 'PQ004', column = field;
    end if;
    problem := case
      when verb in ('increment', 'decrement') then
        case when jsonb_typeof(value) <> 'number' then 'must be a whole number from 1 to 9007199254740991'
          when value::numeric not between 1 and 9007199254740991 or value::numeric <> trunc(value::numeric) then 'must be a whole number from 1 to 9007199254740991' end
      when verb in ('add', 'remove') then
        case when pgquorum.crdt_element(value) is null then 'must be a text of at most 1024 bytes as JSON, a boolean, or a whole number of at most 9007199254740991' end
      when octet_length(value::text) > 65536 then 'is larger than 65536 bytes'
      when jsonb_path_exists(value, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")') then 'has more than 64 levels'
    end;
    if problem is not null then
      raise exception 'crdt.%.%: %', field, verb, problem using errcode = 'PQ005', column = field;
    end if;
  end loop;
end
$$;
comment on function pgquorum.crdt_check(jsonb, jsonb) is 'Refuses operations that the declared fields do not have, and values that can not be used.';

-- Not in language sql: a function called from another one would be planned anew each time.
create function pgquorum.crdt_total(state jsonb, field text, type text) returns numeric
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  cells numeric;
  requests numeric;
begin
  if type = 'g-counter' then
    select sum(c.value::numeric) into cells from jsonb_each(state) life, jsonb_each(life.value -> 'f' -> field -> 'g') c;
  else
    select sum((c.value ->> 0)::numeric - (c.value ->> 1)::numeric) into cells from jsonb_each(state) life, jsonb_each(life.value -> 'f' -> field -> 'p') c;
  end if;
  if jsonb_path_exists(state, '$.*.k') then
    select sum(one.amount) into requests from (
      select max((k.value -> 'd' ->> field)::numeric) as amount from jsonb_each(state) life, jsonb_each(life.value -> 'k') k group by k.key
    ) one where type <> 'g-counter' or one.amount > 0;
  end if;
  return coalesce(cells, 0) + coalesce(requests, 0);
end
$$;
comment on function pgquorum.crdt_total(jsonb, text, text) is 'What a counter''s cells and its distinct requests add up to.';

create function pgquorum.crdt_value(state jsonb, field text, type text) returns jsonb
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
begin
  case type
    when 'lww-register' then
      return coalesce((
        select one.register -> 0
        from jsonb_each(state) life, lateral (select life.value -> 'f' -> field -> 'r' as register offset 0) one
        where one.register is not null
        order by (one.register ->> 1)::numeric desc, (one.register ->> 2)::numeric desc, (one.register ->> 3)::numeric desc limit 1
      ), 'null');
    when 'or-set' then
      return coalesce((
        select jsonb_agg(one.element order by jsonb_typeof(one.element),
          case jsonb_typeof(one.element) when 'number' then one.element::numeric when 'boolean' then (one.element = 'true')::integer end,
          (one.element #>> '{}') collate "C")
        from (select distinct s.key::jsonb as element from jsonb_each(state) life, jsonb_each(life.value -> 'f' -> field -> 's') s) one
      ), '[]');
    else
      return to_jsonb(least(greatest(pgquorum.crdt_total(state, field, type), -9007199254740991), 9007199254740991));
  end case;
end
$$;
comment on function pgquorum.crdt_value(jsonb, text, text) is 'The value of a CRDT field of this type: a number, any JSON, or a sorted array.';

create function pgquorum.crdt_values(state jsonb, fields jsonb) returns jsonb
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
begin
  return coalesce((select jsonb_object_agg(f.key, pgquorum.crdt_value(state, f.key, f.value)) from jsonb_each_text(fields) f), '{}');
end
$$;
comment on function pgquorum.crdt_values(jsonb, jsonb) is 'The values of all declared CRDT fields: 0, null and [] when nothing was done to them.';

create function pgquorum.crdt_apply(
  state jsonb, fields jsonb, operations jsonb, origin integer, counter bigint, hlc bigint, request uuid default null
) returns jsonb
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  lives jsonb := coalesce(state, '{"0.0": {}}');
  node text := origin::text;
  life text;
  other text;
  one record;
  place text[];
  element text;
  amount numeric;
  cell numeric;
  amounts jsonb := '{}';
begin
  perform pgquorum.crdt_check(fields, operations);
  if request is not null and exists (select from jsonb_each(lives) l where l.value -> 'k' ? request::text) then return state; end if;
  select l into life from jsonb_object_keys(lives) l order by split_part(l, '.', 2)::bigint desc, split_part(l, '.', 1)::bigint desc limit 1;
  for one in
    select o.key as field, fields ->> o.key as type, v.key as verb, v.value from jsonb_each(operations) o, jsonb_each(o.value) v order by o.key collate "C"
  loop
    place := array[life, 'f', one.field];
    case one.verb
      when 'increment', 'decrement' then
        amount := trunc(one.value::numeric) * case one.verb when 'increment' then 1 else -1 end;
        place := place || case one.type when 'g-counter' then array['g', node] else array['p', node] end;
        cell := abs(amount) + case
          when request is not null then 0
          when one.type = 'g-counter' then coalesce((lives #>> place)::numeric, 0)
          else coalesce((lives #> place ->> case when amount > 0 then 0 else 1 end)::numeric, 0) end;
        if cell > 9007199254740991 or sign(amount) * (pgquorum.crdt_total(lives, one.field, one.type) + amount) > 9007199254740991 then
          raise exception 'crdt.%: the counter would be beyond 9007199254740991', one.field using errcode = 'PQ006', column = one.field;
        end if;
        if request is not null then
          amounts := amounts || jsonb_build_object(one.field, amount);
        elsif one.type = 'g-counter' then
          lives := pgquorum.crdt_put(lives, place, to_jsonb(cell));
        elsif amount > 0 then
          lives := pgquorum.crdt_put(lives, place, jsonb_build_array(cell, coalesce(lives #> place -> 1, '0')));
        else
          lives := pgquorum.crdt_put(lives, place, jsonb_build_array(coalesce(lives #> place -> 0, '0'), cell));
        end if;
      when 'set' then
        lives := pgquorum.crdt_put(lives, place || 'r'::text, jsonb_build_array(
          pgquorum.crdt_plain(one.value),
          (select greatest(crdt_apply.hlc, max((l.value -> 'f' -> one.field -> 'r' ->> 1)::bigint) + 1)::text from jsonb_each(lives) l), origin, counter));
      when 'add' then
        place := place || array['s', pgquorum.crdt_element(one.value)];
        if lives #> place is null and (select count(*) from jsonb_object_keys(lives #> trim_array(place, 1))) >= 10000 then
          raise exception 'crdt.%: the set would have more than 10000 elements', one.field using errcode = 'PQ006', column = one.field;
        end if;
        lives := pgquorum.crdt_put(lives, place, jsonb_build_object(node, counter));
      when 'remove' then
        element := pgquorum.crdt_element(one.value);
        for other in select l.key from jsonb_each(lives) l where l.value -> 'f' -> one.field -> 's' ? element loop
          lives := pgquorum.crdt_cut(lives, array[other, 'f', one.field, 's', element]);
        end loop;
    end case;
  end loop;
  lives := pgquorum.crdt_put(lives, array[life, 'ops', node], to_jsonb(counter));
  if amounts <> '{}' then
    lives := pgquorum.crdt_put(lives, array[life, 'k', request::text], jsonb_build_object('at', jsonb_build_object(node, counter), 'd', amounts));
  end if;
  return lives;
end
$$;
comment on function pgquorum.crdt_apply(jsonb, jsonb, jsonb, integer, bigint, bigint, uuid) is 'What operations make of a state on the node that carries them out, all or none. A request that the state knows changes nothing.';

-- An index on the version tables that finds these would keep every operation's update from being HOT. Rows come and go under the lock of their key's version.
create table pgquorum.unfolded (
  collection text collate "C" not null,
  key text collate "C" not null,
  constraint unfolded_pkey primary key (collection, key)
);
comment on table pgquorum.unfolded is 'Keys whose counters hold increments by request that this node may have to fold into its own cells. Only of this node; never replicated.';

-- What SQL clients call ------------------------------------------------------------------------------------------------------------
-- These read and write tables that users have no rights on, as pgquorum's own role: so each asks for the caller's rights on the collection's table
-- itself, those that an update, or a select, of a row would need. Plans are generic: planning costs more than these lookups.

create function pgquorum.crdt_target(
  collection text, key text, writes boolean,
  out rows text, out versions text, out matches text, out key_sql text, out texts text[], out fields jsonb
) language plpgsql stable set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  found_collection pgquorum.collection;
  target regclass;
  -- Who logged in, or became another role by "set role". The owner, who runs this, is neither.
  caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
  allowed boolean;
begin
  select c.* into found_collection from pgquorum.collection c where c.name = crdt_target.collection;
  if not found then
    raise exception 'there is no collection %', left(crdt_target.collection, 80) using errcode = 'PQ001';
  end if;
  rows := format('%I.%I', found_collection.table_schema, found_collection.table_name);
  target := rows::regclass;
  allowed := has_table_privilege(caller, target, 'select') and (not writes or has_table_privilege(caller, target, 'update'));
  if allowed and (select c.relrowsecurity from pg_class c where c.oid = target) then
    select r.rolsuper or r.rolbypassrls or (pg_has_role(r.oid, c.relowner, 'usage') and not c.relforcerowsecurity)
      into allowed from pg_class c, pg_roles r where c.oid = target and r.rolname = caller;
  end if;
  if allowed is distinct from true then
    raise exception 'permission denied for collection %', found_collection.name using errcode = '42501',
      hint = format('The role %I needs %s on table %s, and no row-level security that applies to it: its policies can not be asked here.', caller, case when writes then 'select and update' else 'select' end, rows);
  end if;
  texts := case when cardinality(found_collection.key_columns) = 1 then array[crdt_target.key]
    else array(select k from jsonb_array_elements_text(crdt_target.key::jsonb) k) end;
  if cardinality(texts) <> cardinality(found_collection.key_columns) then
    raise exception 'the key of collection % is the JSON array of % texts', found_collection.name, cardinality(found_collection.key_columns) using errcode = 'PQ005';
  end if;
  -- Types without their length: a cast to varchar(3) would cut a text, and find another row.
  select string_agg(format('k.%I = ($1)[%s]::%s', c.name, c.place, format_type(a.atttypid, -1)), ' and ' order by c.place),
      string_agg(format('k.%I::text', c.name), ', ' order by c.place)
    into matches, key_sql
    from unnest(found_collection.key_columns) with ordinality c(name, place) join pg_attribute a on a.attrelid = target and a.attname = c.name;
  key_sql := format('pgquorum.key_text(%s)', key_sql);
  versions := format('pgquorum.%I', 'version_' || found_collection.name);
  fields := coalesce(found_collection.definition -> 'conflicts' -> 'crdt', '{}');
end
$$;
comment on function pgquorum.crdt_target(text, text, boolean) is 'Where a key of a collection is found, as SQL, once the caller''s rights are checked.';
revoke execute on function pgquorum.crdt_target(text, text, boolean) from public;

create function pgquorum.crdt_change(
  collection text, key text, operations jsonb, request uuid default null,
  out origin smallint, out counter bigint, out hlc bigint, out repeated boolean, out crdt jsonb
) language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set datestyle = 'ISO, YMD' set bytea_output = hex as $$
#variable_conflict use_column
declare
  target record;
  version record;
  canonical text;
  me smallint;
  last_own bigint;
  changed jsonb;
begin
  target := pgquorum.crdt_target(crdt_change.collection, crdt_change.key, true);
  -- The row, then its version: in the order in which users' statements and apply lock them.
  execute format('select %s from %s k where %s for no key update', target.key_sql, target.rows, target.matches) into canonical using target.texts;
  if canonical is null then
    raise exception 'collection % has no row with this key', crdt_change.collection using errcode = 'PQ002';
  end if;
  execute format('select k.origin, k.counter, coalesce(k.seen, k.clock) as seen, k.crdt from %s k where %s and not k.deleted for no key update', target.versions, target.matches)
    into version using target.texts;
  if version.seen is null then
    raise exception 'a row of collection % has no version', crdt_change.collection using errcode = 'PQ007',
      hint = 'It was written with triggers disabled. Any update of the row gives it one.';
  end if;
  select n.number into strict me from pgquorum.node n;
  if crdt_change.request is not null then
    -- A request may both write the row and operate on it: the records of operations are those with hlc 0, which order nothing.
    select r.origin, r.counter into crdt_change.origin, crdt_change.counter from pgquorum.request r
      where r.collection = crdt_change.collection and r.key = canonical and r.request = crdt_change.request and r.hlc = 0
      order by r.origin = me desc, r.counter desc limit 1;
    if not found then
      select a.key::smallint, a.value::bigint into crdt_change.origin, crdt_change.counter
        from jsonb_each(version.crdt) l, jsonb_each_text(l.value -> 'k' -> crdt_change.request::text -> 'at') a
        order by a.key::integer limit 1;
    end if;
    if found then
      crdt_change.repeated := true;
      crdt_change.crdt := pgquorum.crdt_values(version.crdt, target.fields);
      return;
    end if;
  end if;
  crdt_change.origin := me;
  crdt_change.counter := nextval('pgquorum.dot');
  last_own := coalesce((version.seen ->> me::text)::bigint, 0);
  if crdt_change.counter <= last_own then
    -- The sequence has gone back.
    perform pgquorum.advance_dot(last_own);
    crdt_change.counter := nextval('pgquorum.dot');
  end if;
  crdt_change.hlc := pgquorum.now_hlc();
  crdt_change.repeated := false;
  changed := pgquorum.crdt_apply(version.crdt, target.fields, crdt_change.operations, me, crdt_change.counter, crdt_change.hlc, crdt_change.request);
  execute format('update %s k set crdt = $2, seen = $3, applied = false where %s', target.versions, target.matches)
    using target.texts, changed, version.seen || jsonb_build_object(me, crdt_change.counter);
  if crdt_change.request is not null then
    insert into pgquorum.request (collection, key, request, origin, counter, hlc)
    values (crdt_change.collection, canonical, crdt_change.request, me, crdt_change.counter, 0);
    if jsonb_path_exists(crdt_change.operations, '$.*.increment') or jsonb_path_exists(crdt_change.operations, '$.*.decrement') then
      insert into pgquorum.unfolded (collection, key) values (crdt_change.collection, canonical) on conflict do nothing;
    end if;
  end if;
  crdt_change.crdt := pgquorum.crdt_values(changed, target.fields);
end
$$;
comment on function pgquorum.crdt_change(text, text, jsonb, uuid) is 'Carries out operations on the CRDT fields of a row, {"field": {"increment": 1}, ...}, all or none, and a request once. Returns the operation''s dot and hlc (null for a repeat), and the values of all fields.';

create function pgquorum.counter_add(collection text, key text, field text, amount bigint default 1) returns bigint
  language sql volatile set search_path = pg_catalog, pg_temp
  begin atomic
    select (c.crdt ->> field)::bigint from pgquorum.crdt_change(collection, key,
      jsonb_build_object(field, jsonb_build_object(case when amount < 0 then 'decrement' else 'increment' end, abs(amount::numeric)))) c;
  end;
comment on function pgquorum.counter_add(text, text, text, bigint) is 'Counts in a g-counter or pn-counter of a row, downwards with an amount below 0. Returns the counter''s value.';

create function pgquorum.register_set(collection text, key text, field text, value jsonb) returns jsonb
  language sql volatile set search_path = pg_catalog, pg_temp
  begin atomic
    select c.crdt -> field from pgquorum.crdt_change(collection, key, jsonb_build_object(field, jsonb_build_object('set', value))) c;
  end;
comment on function pgquorum.register_set(text, text, text, jsonb) is 'Sets an lww-register of a row. Returns its value.';

create function pgquorum.set_add(collection text, key text, field text, element text) returns jsonb
  language sql volatile set search_path = pg_catalog, pg_temp
  begin atomic
    select c.crdt -> field from pgquorum.crdt_change(collection, key, jsonb_build_object(field, jsonb_build_object('add', element))) c;
  end;
comment on function pgquorum.set_add(text, text, text, text) is 'Adds an element to an or-set of a row. Returns the elements.';

create function pgquorum.set_remove(collection text, key text, field text, element text) returns jsonb
  language sql volatile set search_path = pg_catalog, pg_temp
  begin atomic
    select c.crdt -> field from pgquorum.crdt_change(collection, key, jsonb_build_object(field, jsonb_build_object('remove', element))) c;
  end;
comment on function pgquorum.set_remove(text, text, text, text) is 'Removes an element from an or-set of a row. Returns the elements that are left.';

create function pgquorum.crdt_get(collection text, key text) returns jsonb
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set datestyle = 'ISO, YMD' set bytea_output = hex as $$
#variable_conflict use_column
declare
  target record;
  is_there boolean;
  state jsonb;
begin
  target := pgquorum.crdt_target(crdt_get.collection, crdt_get.key, false);
  execute format('select true, (select k.crdt from %s k where %s) from %s k where %s', target.versions, target.matches, target.rows, target.matches)
    into is_there, state using target.texts;
  return case when is_there then pgquorum.crdt_values(state, target.fields) end;
end
$$;
comment on function pgquorum.crdt_get(text, text) is 'The values of the CRDT fields of a row; null when there is no such row.';

-- Nothing in the schema can be read or written without rights of its own; what may be called by everyone checks the caller's.
grant usage on schema pgquorum to public;
