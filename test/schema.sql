--
-- PostgreSQL database dump
--

\restrict pgquorum

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: pgquorum; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA pgquorum;

--
-- Name: advance_dot(bigint); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.advance_dot(at_least bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform pg_advisory_lock(7308895164427563361);
  perform setval('pgquorum.dot', at_least) where at_least > (select last_value from pgquorum.dot);
  perform pg_advisory_unlock(7308895164427563361);
end
$$;

--
-- Name: FUNCTION advance_dot(at_least bigint); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.advance_dot(at_least bigint) IS 'Sets the sequence of dots forward to at least this counter.';

--
-- Name: check_holders(text, integer[], bigint[]); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.check_holders(of_collection text, wanted integer[], epochs bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from pgquorum.shard_role r where r.collection = of_collection and r.shard = any(wanted) order by r.shard for share;
  if exists (select from unnest(wanted, epochs) w(shard, epoch)
      where not exists (select from pgquorum.shard_role r where r.collection = of_collection and r.shard = w.shard and r.role in ('replica', 'joining') and r.epoch = w.epoch)) then
    raise exception 'this node does not hold the shard under the epoch that was asked for' using errcode = 'PQ020';
  end if;
end
$$;

--
-- Name: FUNCTION check_holders(of_collection text, wanted integer[], epochs bigint[]); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.check_holders(of_collection text, wanted integer[], epochs bigint[]) IS 'Refuses to go on unless this node holds all of these shards, or is being filled with them, under just these epochs, and does so until the end of the transaction.';

--
-- Name: check_members(text[]); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.check_members(names text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- Shared by those who count on the members, alone for who changes them: cheaper than a lock on rows that every write would take.
  perform pg_advisory_xact_lock_shared(hashtextextended('pgquorum members', 0));
  if names is distinct from (select array_agg(distinct m.name collate "C" order by m.name collate "C") from pgquorum.member m where not m.retired) then
    raise exception 'the members of the cluster are others than was asked for' using errcode = 'PQ020';
  end if;
end
$$;

--
-- Name: FUNCTION check_members(names text[]); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.check_members(names text[]) IS 'Refuses to go on unless these are the members as this node knows them, in order of their bytes, and keeps them until the end of the transaction.';

--
-- Name: check_shards(text, integer[], bigint[]); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.check_shards(of_collection text, wanted integer[], epochs bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from pgquorum.shard_role r where r.collection = of_collection and r.shard = any(wanted) order by r.shard for share;
  if exists (select from unnest(wanted, epochs) w(shard, epoch)
      where not exists (select from pgquorum.shard_role r where r.collection = of_collection and r.shard = w.shard and r.role = 'replica' and r.epoch = coalesce(w.epoch, r.epoch))) then
    raise exception 'this node does not hold the shard under the epoch that was asked for' using errcode = 'PQ020';
  end if;
end
$$;

--
-- Name: FUNCTION check_shards(of_collection text, wanted integer[], epochs bigint[]); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.check_shards(of_collection text, wanted integer[], epochs bigint[]) IS 'Refuses to go on unless this node is a replica of all these shards under these epochs (null = any), and stays one until the end of the transaction.';

--
-- Name: clock_includes(jsonb, jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.clock_includes(clock jsonb, part jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (NOT (EXISTS (SELECT FROM jsonb_each_text(clock_includes.part) p(key, value) WHERE ((p.value)::bigint > COALESCE(((clock_includes.clock ->> p.key))::bigint, (0)::bigint)))));

--
-- Name: FUNCTION clock_includes(clock jsonb, part jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.clock_includes(clock jsonb, part jsonb) IS 'Whether every entry of `part` is within `clock`.';

--
-- Name: clock_join(jsonb, jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.clock_join(a jsonb, b jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (a || COALESCE((SELECT jsonb_object_agg(p.key, (p.value)::bigint) AS jsonb_object_agg FROM jsonb_each_text(clock_join.b) p(key, value) WHERE ((p.value)::bigint > COALESCE(((clock_join.a ->> p.key))::bigint, (0)::bigint))), '{}'::jsonb));

--
-- Name: FUNCTION clock_join(a jsonb, b jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.clock_join(a jsonb, b jsonb) IS 'The greater of each entry.';

--
-- Name: complete_record(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.complete_record() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  new.loser_row := pgquorum.completed_row(new.collection, new.loser_row);
  return new;
end
$$;

--
-- Name: FUNCTION complete_record(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.complete_record() IS 'Gives a record the columns that its row did not bring.';

--
-- Name: completed_row(text, jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.completed_row(collection text, loser jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  relation regclass;
  lacking record;
  value text;
begin
  if loser is null then return null; end if;
  select to_regclass(format('%I.%I', c.table_schema, c.table_name)) into relation from pgquorum.collection c where c.name = completed_row.collection;
  if relation is null then return loser; end if;
  -- A column that is being added is waited for, and the next one waits for this transaction: a record is either complete, or seen by who completes those that are there.
  execute format('lock table %s in access share mode', relation);
  for lacking in
    select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.atthasmissing as stood, (a.attmissingval::text::text[])[1] as standing,
      a.attnotnull as required, pg_get_expr(d.adbin, d.adrelid) as given
    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = '' and not loser ? a.attname
    order by a.attnum
  loop
    if lacking.stood then
      value := lacking.standing;
    elsif lacking.given is null then
      continue when lacking.required;
      value := null;
    else
      -- Constants alone: any other default is another one for each row, and on each master.
      continue when lacking.given !~* $re$^\(?(?:-?\d[\d.]*|true|false|null|e?'(?:[^']|'')*'|array\[\])\)?(?:::[\w ."()\[\],]+)*$$re$;
      execute format('select case when d.v is null then null else format(''%%s'', d.v) end from (select (%s)::%s as v) d', lacking.given, lacking.type) into value;
    end if;
    loser := loser || jsonb_build_object(lacking.name, value);
  end loop;
  return loser;
end
$_$;

--
-- Name: FUNCTION completed_row(collection text, loser jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.completed_row(collection text, loser jsonb) IS 'The row of a conflict record with the columns that its table has got since, as they were given to rows that stood there. Columns that are gone stay.';

--
-- Name: conflict_event(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.conflict_event() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  insert into pgquorum.event (type, body) values ('conflict', jsonb_build_object(
    'happened', case when tg_op = 'INSERT' then 'found' else new.state end,
    'conflictId', new.id, 'collection', new.collection, 'key', new.key, 'kind', new.kind, 'state', new.state, 'stateOrigin', new.state_origin));
  return null;
end
$$;

--
-- Name: FUNCTION conflict_event(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.conflict_event() IS 'An event for each record that is found here and each state that it reaches.';

--
-- Name: crdt_change(text, text, jsonb, uuid); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_change(collection text, key text, operations jsonb, request uuid DEFAULT NULL::uuid, OUT origin smallint, OUT counter bigint, OUT hlc bigint, OUT repeated boolean, OUT crdt jsonb) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET "DateStyle" TO 'ISO, YMD'
    SET bytea_output TO 'hex'
    AS $_$
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
  select n.number into strict me from pgquorum.identity n;
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
$_$;

--
-- Name: FUNCTION crdt_change(collection text, key text, operations jsonb, request uuid, OUT origin smallint, OUT counter bigint, OUT hlc bigint, OUT repeated boolean, OUT crdt jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_change(collection text, key text, operations jsonb, request uuid, OUT origin smallint, OUT counter bigint, OUT hlc bigint, OUT repeated boolean, OUT crdt jsonb) IS 'Carries out operations on the CRDT fields of a row, {"field": {"increment": 1}, ...}, all or none, and a request once. Returns the operation''s dot and hlc (null for a repeat), and the values of all fields.';

--
-- Name: counter_add(text, text, text, bigint); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.counter_add(collection text, key text, field text, amount bigint DEFAULT 1) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT ((c.crdt ->> counter_add.field))::bigint AS int8
    FROM pgquorum.crdt_change(counter_add.collection, counter_add.key, jsonb_build_object(counter_add.field, jsonb_build_object(
         CASE
             WHEN (counter_add.amount < 0) THEN 'decrement'::text
             ELSE 'increment'::text
         END, abs((counter_add.amount)::numeric)))) c(origin, counter, hlc, repeated, crdt);
END;

--
-- Name: FUNCTION counter_add(collection text, key text, field text, amount bigint); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.counter_add(collection text, key text, field text, amount bigint) IS 'Counts in a g-counter or pn-counter of a row, downwards with an amount below 0. Returns the counter''s value.';

--
-- Name: crdt_apply(jsonb, jsonb, jsonb, integer, bigint, bigint, uuid); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_apply(state jsonb, fields jsonb, operations jsonb, origin integer, counter bigint, hlc bigint, request uuid DEFAULT NULL::uuid) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

--
-- Name: FUNCTION crdt_apply(state jsonb, fields jsonb, operations jsonb, origin integer, counter bigint, hlc bigint, request uuid); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_apply(state jsonb, fields jsonb, operations jsonb, origin integer, counter bigint, hlc bigint, request uuid) IS 'What operations make of a state on the node that carries them out, all or none. A request that the state knows changes nothing.';

--
-- Name: crdt_check(jsonb, jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_check(fields jsonb, operations jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;

--
-- Name: FUNCTION crdt_check(fields jsonb, operations jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_check(fields jsonb, operations jsonb) IS 'Refuses operations that the declared fields do not have, and values that can not be used.';

--
-- Name: crdt_cut(jsonb, text[]); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_cut(target jsonb, path text[]) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  loop
    target := target #- path;
    path := trim_array(path, 1);
    exit when cardinality(path) <= 1 or target #> path is distinct from '{}';
  end loop;
  return target;
end
$$;

--
-- Name: FUNCTION crdt_cut(target jsonb, path text[]); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_cut(target jsonb, path text[]) IS 'An object without what is at a path, and without what that leaves empty below the first step: equal states are equal JSON.';

--
-- Name: crdt_element(jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_element(value jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN CASE jsonb_typeof(value) WHEN 'string'::text THEN CASE WHEN (octet_length((value)::text) <= 1024) THEN (value)::text ELSE NULL::text END WHEN 'boolean'::text THEN (value)::text WHEN 'number'::text THEN CASE WHEN ((abs((value)::numeric) <= ('9007199254740991'::bigint)::numeric) AND ((value)::numeric = trunc((value)::numeric))) THEN ((value)::bigint)::text ELSE NULL::text END ELSE NULL::text END;

--
-- Name: FUNCTION crdt_element(value jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_element(value jsonb) IS 'The text under which an or-set keeps an element; null when the value can not be one.';

--
-- Name: crdt_get(text, text); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_get(collection text, key text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET "DateStyle" TO 'ISO, YMD'
    SET bytea_output TO 'hex'
    AS $$
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

--
-- Name: FUNCTION crdt_get(collection text, key text); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_get(collection text, key text) IS 'The values of the CRDT fields of a row; null when there is no such row.';

--
-- Name: crdt_plain(jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_plain(value jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET extra_float_digits TO '1'
    AS $_$
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
$_$;

--
-- Name: FUNCTION crdt_plain(value jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_plain(value jsonb) IS 'A JSON value with its numbers as short as they can be. Refuses those that are no double: they would change on their way through other masters.';

--
-- Name: crdt_put(jsonb, text[], jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_put(target jsonb, path text[], value jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  for depth in 1 .. cardinality(path) - 1 loop
    if target #> path[1:depth] is null then target := jsonb_set(target, path[1:depth], '{}'); end if;
  end loop;
  return jsonb_set(target, path, value);
end
$$;

--
-- Name: FUNCTION crdt_put(target jsonb, path text[], value jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_put(target jsonb, path text[], value jsonb) IS 'An object with a value set at a path, whose objects are made where they are missing.';

--
-- Name: crdt_target(text, text, boolean); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_target(collection text, key text, writes boolean, OUT rows text, OUT versions text, OUT matches text, OUT key_sql text, OUT texts text[], OUT fields jsonb) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $_$
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
$_$;

--
-- Name: FUNCTION crdt_target(collection text, key text, writes boolean, OUT rows text, OUT versions text, OUT matches text, OUT key_sql text, OUT texts text[], OUT fields jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_target(collection text, key text, writes boolean, OUT rows text, OUT versions text, OUT matches text, OUT key_sql text, OUT texts text[], OUT fields jsonb) IS 'Where a key of a collection is found, as SQL, once the caller''s rights are checked.';

--
-- Name: crdt_total(jsonb, text, text); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_total(state jsonb, field text, type text) RETURNS numeric
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;

--
-- Name: FUNCTION crdt_total(state jsonb, field text, type text); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_total(state jsonb, field text, type text) IS 'What a counter''s cells and its distinct requests add up to.';

--
-- Name: crdt_value(jsonb, text, text); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_value(state jsonb, field text, type text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

--
-- Name: FUNCTION crdt_value(state jsonb, field text, type text); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_value(state jsonb, field text, type text) IS 'The value of a CRDT field of this type: a number, any JSON, or a sorted array.';

--
-- Name: crdt_values(jsonb, jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.crdt_values(state jsonb, fields jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return coalesce((select jsonb_object_agg(f.key, pgquorum.crdt_value(state, f.key, f.value)) from jsonb_each_text(fields) f), '{}');
end
$$;

--
-- Name: FUNCTION crdt_values(state jsonb, fields jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.crdt_values(state jsonb, fields jsonb) IS 'The values of all declared CRDT fields: 0, null and [] when nothing was done to them.';

--
-- Name: forget_own(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.forget_own() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform setval('pgquorum.own', 0);
  return null;
end
$$;

--
-- Name: FUNCTION forget_own(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.forget_own() IS 'The node has another number, or its start is confirmed or not any more: writes ask pgquorum.identity until this is noted.';

--
-- Name: forget_secret(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.forget_secret() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  new.secret := null;
  return new;
end
$$;

--
-- Name: FUNCTION forget_secret(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.forget_secret() IS 'Takes the secret of a job that has ended away.';

--
-- Name: hold_members(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.hold_members() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform pg_advisory_xact_lock(hashtextextended('pgquorum members', 0));
  return null;
end
$$;

--
-- Name: FUNCTION hold_members(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.hold_members() IS 'Who changes the members waits for those who count on them.';

--
-- Name: keep_floor(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.keep_floor() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  of_collection text := coalesce(new.collection, old.collection);
begin
  update pgquorum.node n set floors = (n.floors - of_collection)
    || coalesce((select jsonb_build_object(of_collection, max(h.hlc)) from pgquorum.horizon h where h.collection = of_collection having max(h.hlc) > 0), '{}');
  if new.hlc > coalesce(pg_sequence_last_value('pgquorum.floor'), 0) then perform setval('pgquorum.floor', new.hlc); end if;
  return null;
end
$$;

--
-- Name: FUNCTION keep_floor(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.keep_floor() IS 'Keeps pgquorum.node.floors in step with the purge horizons.';

--
-- Name: key_hash(text); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.key_hash(key text) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ((('x'::text || encode(substr(sha256(convert_to(key, 'UTF8'::name)), 1, 4), 'hex'::text)))::bit(32))::bigint;

--
-- Name: FUNCTION key_hash(key text); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.key_hash(key text) IS 'First 32 bits of sha256 of a key''s canonical text. The gateway computes the same.';

--
-- Name: key_text(text[]); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.key_text(VARIADIC texts text[]) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN (cardinality(texts) = 1) THEN (texts)[1] ELSE (array_to_json(texts))::text END;

--
-- Name: FUNCTION key_text(VARIADIC texts text[]); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.key_text(VARIADIC texts text[]) IS 'A key as one text: itself when single, else the JSON array of its texts.';

--
-- Name: merge_patch(jsonb, jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.merge_patch(target jsonb, patch jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if jsonb_typeof(patch) is distinct from 'object' then return patch; end if;
  if jsonb_typeof(target) is distinct from 'object' then target := '{}'; end if;
  return coalesce((
    select jsonb_object_agg(coalesce(p.key, t.key), case
      when p.key is null then t.value
      when jsonb_typeof(p.value) = 'object' then pgquorum.merge_patch(t.value, p.value)
      else p.value end)
    from jsonb_each(target) t full join jsonb_each(patch) p on p.key = t.key
    where p.value is distinct from 'null'
  ), '{}');
end
$$;

--
-- Name: FUNCTION merge_patch(target jsonb, patch jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.merge_patch(target jsonb, patch jsonb) IS 'A JSON merge patch: objects are merged, null takes a field away, anything else replaces what is there.';

--
-- Name: note_own(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.note_own() RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  here pgquorum.node;
begin
  -- Waits for whoever is changing the row, and keeps it until the end of the transaction.
  select n.* into here from pgquorum.node n for share;
  if here.started is distinct from pg_postmaster_start_time() then return false; end if;
  if pg_sequence_last_value('pgquorum.own') is distinct from pgquorum.packed_own(here.number, here.started) then
    perform setval('pgquorum.own', pgquorum.packed_own(here.number, here.started));
  end if;
  return true;
end
$$;

--
-- Name: FUNCTION note_own(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.note_own() IS 'Notes the number of this node for its writes, when the start of the server is confirmed.';

--
-- Name: now_hlc(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.now_hlc() RETURNS bigint
    LANGUAGE sql PARALLEL SAFE
    RETURN (((EXTRACT(epoch FROM clock_timestamp()) * (1000)::numeric))::bigint << 16);

--
-- Name: FUNCTION now_hlc(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.now_hlc() IS 'The wall clock as a hybrid logical clock value.';

--
-- Name: packed_own(smallint, timestamp with time zone); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.packed_own(number smallint, started timestamp with time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN (((((date_part('epoch'::text, started) * (1000000)::double precision))::bigint & '140737488355327'::bigint) << 16) | (number)::bigint);

--
-- Name: FUNCTION packed_own(number smallint, started timestamp with time zone); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.packed_own(number smallint, started timestamp with time zone) IS 'The value of pgquorum.own for a number and the confirmed start of the server.';

--
-- Name: refuse_elsewhere(text, integer[]); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.refuse_elsewhere(of_collection text, wanted integer[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

--
-- Name: FUNCTION refuse_elsewhere(of_collection text, wanted integer[]); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.refuse_elsewhere(of_collection text, wanted integer[]) IS 'For collections with nonHostWrites refuse: refuses a write of shards that this node does not hold.';

--
-- Name: refuse_hidden(text); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.refuse_hidden(collection text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception 'row-level security hides rows of collection % from the owner of its table', collection using errcode = '42501',
    hint = 'What is hidden would be taken for deleted on all masters. Do not force row-level security, or give the owner bypassrls. For all but truncate a policy that shows it all rows does too.';
end
$$;

--
-- Name: FUNCTION refuse_hidden(collection text); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.refuse_hidden(collection text) IS 'Refuses a write whose row the table''s owner can not see.';

--
-- Name: refuse_model(text, smallint, smallint); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.refuse_model(key text, named smallint, present smallint) RETURNS smallint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception 'key % has an embedding of a later model (place %) than the one named (place %)', key, present, named using errcode = 'PQ011', hint = 'Embed with the later model, or write under another key.';
end
$$;

--
-- Name: FUNCTION refuse_model(key text, named smallint, present smallint); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.refuse_model(key text, named smallint, present smallint) IS 'Refuses a write that would lower a key''s rank.';

--
-- Name: refuse_write(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.refuse_write() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if current_setting('pgquorum.apply', true) = 'on' and session_user = tg_argv[0] then return null; end if;
  raise exception 'this node is no master of the cluster any more: %', tg_argv[1] using errcode = 'PQ013', hint = 'Write to another master.';
end
$$;

--
-- Name: FUNCTION refuse_write(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.refuse_write() IS 'Refuses writes of users on a node whose changes nobody would carry.';

--
-- Name: register_set(text, text, text, jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.register_set(collection text, key text, field text, value jsonb) RETURNS jsonb
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT (c.crdt -> register_set.field)
    FROM pgquorum.crdt_change(register_set.collection, register_set.key, jsonb_build_object(register_set.field, jsonb_build_object('set', register_set.value))) c(origin, counter, hlc, repeated, crdt);
END;

--
-- Name: FUNCTION register_set(collection text, key text, field text, value jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.register_set(collection text, key text, field text, value jsonb) IS 'Sets an lww-register of a row. Returns its value.';

--
-- Name: server_start_us(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.server_start_us() RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN ((EXTRACT(epoch FROM pg_postmaster_start_time()) * (1000000)::numeric))::bigint;

--
-- Name: FUNCTION server_start_us(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.server_start_us() IS 'When this server was started, microseconds since 1970.';

--
-- Name: set_add(text, text, text, text); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.set_add(collection text, key text, field text, element text) RETURNS jsonb
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT (c.crdt -> set_add.field)
    FROM pgquorum.crdt_change(set_add.collection, set_add.key, jsonb_build_object(set_add.field, jsonb_build_object('add', set_add.element))) c(origin, counter, hlc, repeated, crdt);
END;

--
-- Name: FUNCTION set_add(collection text, key text, field text, element text); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.set_add(collection text, key text, field text, element text) IS 'Adds an element to an or-set of a row. Returns the elements.';

--
-- Name: set_remove(text, text, text, text); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.set_remove(collection text, key text, field text, element text) RETURNS jsonb
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT (c.crdt -> set_remove.field)
    FROM pgquorum.crdt_change(set_remove.collection, set_remove.key, jsonb_build_object(set_remove.field, jsonb_build_object('remove', set_remove.element))) c(origin, counter, hlc, repeated, crdt);
END;

--
-- Name: FUNCTION set_remove(collection text, key text, field text, element text); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.set_remove(collection text, key text, field text, element text) IS 'Removes an element from an or-set of a row. Returns the elements that are left.';

--
-- Name: shard_of(text, integer, jsonb); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.shard_of(key text, shards integer, definition jsonb) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN ((definition -> 'partitioning'::text) IS NULL) THEN ((pgquorum.key_hash(key) % (shards)::bigint))::integer ELSE width_bucket((key COLLATE "C"), ARRAY(SELECT p.point FROM jsonb_array_elements_text(((shard_of.definition -> 'partitioning'::text) -> 'splitPoints'::text)) WITH ORDINALITY p(point, place) ORDER BY p.place)) END;

--
-- Name: FUNCTION shard_of(key text, shards integer, definition jsonb); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.shard_of(key text, shards integer, definition jsonb) IS 'The shard of a key''s canonical text in a collection of so many shards with this definition.';

--
-- Name: unconfirmed_number(smallint, smallint, text, timestamp with time zone); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.unconfirmed_number(number smallint, spare smallint, timeline text, confirmed timestamp with time zone) RETURNS smallint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  here constant bigint := pgquorum.server_start_us();
  settled constant bigint := coalesce((extract(epoch from confirmed) * 1000000)::bigint, 0);
begin
  if (select last_value in (0, settled) from pgquorum.unconfirmed_us) and here <> settled then
    perform pg_advisory_lock(7308895164427563362);
    if (select last_value in (0, settled) from pgquorum.unconfirmed_us) then
      perform setval('pgquorum.unconfirmed_lsn', (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint);
      perform setval('pgquorum.unconfirmed_us', here);
    end if;
    perform pg_advisory_unlock(7308895164427563362);
  end if;
  if timeline = substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) then return number; end if;
  if spare is null then
    raise exception 'this server was promoted or restored, and the node has no spare number to write under' using errcode = 'PQ012', hint = 'A replicator that reaches all nodes gives it one.';
  end if;
  return spare;
end
$$;

--
-- Name: FUNCTION unconfirmed_number(number smallint, spare smallint, timeline text, confirmed timestamp with time zone); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.unconfirmed_number(number smallint, spare smallint, timeline text, confirmed timestamp with time zone) IS 'Notes where unconfirmed writes began, and says under which number they are to be made.';

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: change_anchor; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.change_anchor (
    only_row boolean DEFAULT true NOT NULL,
    slot text NOT NULL,
    generation text NOT NULL,
    publication oid NOT NULL,
    used_at timestamp with time zone NOT NULL,
    CONSTRAINT change_anchor_only_row CHECK (only_row)
);

--
-- Name: TABLE change_anchor; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.change_anchor IS 'The slot that keeps this node''s changes for those who come back for them; nobody reads it, streams read copies of it. Made by the first stream, dropped when none has come for long.';

--
-- Name: COLUMN change_anchor.generation; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.change_anchor.generation IS 'Positions belong to one life of the slot.';

--
-- Name: clock_view; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.clock_view (
    only_row boolean DEFAULT true NOT NULL,
    found jsonb NOT NULL,
    at timestamp with time zone NOT NULL,
    CONSTRAINT clock_view_only_row CHECK (only_row)
)
WITH (fillfactor='50');

--
-- Name: TABLE clock_view; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.clock_view IS 'How far the clocks of all nodes are apart, as a replicator of this node has found: node number -> [offset, round trip] in ms. Only differences mean anything.';

--
-- Name: collection; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.collection (
    name text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    key_columns text[] NOT NULL,
    definition jsonb NOT NULL,
    shards integer NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT collection_shards CHECK ((shards > 0))
);

--
-- Name: TABLE collection; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.collection IS 'The collections of this node: their table, key and definition.';

--
-- Name: conflict; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.conflict (
    id uuid NOT NULL,
    collection text NOT NULL,
    key text NOT NULL,
    key_texts jsonb NOT NULL,
    shard integer NOT NULL,
    kind text NOT NULL,
    loser_rank smallint NOT NULL,
    loser_epoch bigint NOT NULL,
    loser_hlc bigint NOT NULL,
    loser_origin smallint NOT NULL,
    loser_counter bigint NOT NULL,
    loser_clock jsonb NOT NULL,
    loser_deleted boolean NOT NULL,
    loser_request uuid,
    loser_crdt jsonb,
    loser_row jsonb,
    winner_hlc bigint NOT NULL,
    winner_origin smallint NOT NULL,
    winner_counter bigint NOT NULL,
    state text NOT NULL,
    state_hlc bigint NOT NULL,
    state_origin smallint NOT NULL,
    decided_by text NOT NULL,
    reason text NOT NULL,
    applied boolean NOT NULL,
    found_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    attempt jsonb,
    CONSTRAINT conflict_kind CHECK ((kind = ANY (ARRAY['update-update'::text, 'update-delete'::text, 'delete-update'::text, 'delete-delete'::text, 'insert-insert'::text, 'model-guard'::text, 'returned'::text, 'replaced'::text]))),
    CONSTRAINT conflict_state CHECK ((state = ANY (ARRAY['open'::text, 'superseded'::text, 'resolved'::text, 'restored'::text])))
);

--
-- Name: TABLE conflict; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.conflict IS 'Concurrent writes that lost, with their rows: a replicated set by (collection, key, loser''s dot) whose state only advances.';

--
-- Name: COLUMN conflict.kind; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.conflict.kind IS 'What met: winner and loser, or model-guard when their models differ in rank; returned for a write from under the purge horizon; replaced for what a restore wrote over.';

--
-- Name: COLUMN conflict.loser_row; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.conflict.loser_row IS 'The losing row: column name to text form; null for a losing delete.';

--
-- Name: COLUMN conflict.applied; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.conflict.applied IS 'True when replication wrote this state of the record; such rows are not published again.';

--
-- Name: COLUMN conflict.attempt; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.conflict.attempt IS 'The last time that a resolver failed here, and why: {at, resolver, version, error, tries}. This node''s own; never replicated.';

--
-- Name: ddl; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.ddl (
    job uuid NOT NULL,
    collection text NOT NULL,
    statement text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE ddl; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.ddl IS 'Statements by which tables of collections were altered here and on all other masters.';

--
-- Name: dead_letter; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.dead_letter (
    id bigint NOT NULL,
    origin smallint NOT NULL,
    log text NOT NULL,
    stream integer NOT NULL,
    "position" bigint,
    collection text NOT NULL,
    key text NOT NULL,
    sqlstate text,
    message text NOT NULL,
    payload bytea NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    change text,
    code text,
    commit_time timestamp with time zone,
    tries integer DEFAULT 0 NOT NULL,
    tried_at timestamp with time zone
);

--
-- Name: TABLE dead_letter; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.dead_letter IS 'Changes that can not be applied here, with position and payload, for inspection and replay.';

--
-- Name: COLUMN dead_letter."position"; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.dead_letter."position" IS 'Where the origin committed it, in its WAL.';

--
-- Name: COLUMN dead_letter.change; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.dead_letter.change IS 'Name of the change, the same however often it is delivered; null in letters of older versions.';

--
-- Name: COLUMN dead_letter.tries; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.dead_letter.tries IS 'Replays that failed; sqlstate and message are those of the last one.';

--
-- Name: dead_letter_id_seq; Type: SEQUENCE; Schema: pgquorum; Owner: -
--

ALTER TABLE pgquorum.dead_letter ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME pgquorum.dead_letter_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: dot; Type: SEQUENCE; Schema: pgquorum; Owner: -
--

CREATE SEQUENCE pgquorum.dot
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

--
-- Name: SEQUENCE dot; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON SEQUENCE pgquorum.dot IS 'Counters of the dots of this node. Only grows; no dot is used twice.';

--
-- Name: event; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.event (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    arrival bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    type text NOT NULL,
    body jsonb NOT NULL
);

--
-- Name: TABLE event; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.event IS 'What happened, as this node came to know of it; streamed by gateways, forgotten after a time, never replicated.';

--
-- Name: event_arrival_seq; Type: SEQUENCE; Schema: pgquorum; Owner: -
--

ALTER TABLE pgquorum.event ALTER COLUMN arrival ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME pgquorum.event_arrival_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: event_forgotten; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.event_forgotten (
    only_row boolean DEFAULT true NOT NULL,
    xid xid8 NOT NULL,
    arrival bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    CONSTRAINT event_forgotten_only_row CHECK (only_row)
);

--
-- Name: TABLE event_forgotten; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.event_forgotten IS 'The last event that was forgotten here: streams can be resumed from there on.';

--
-- Name: floor; Type: SEQUENCE; Schema: pgquorum; Owner: -
--

CREATE SEQUENCE pgquorum.floor
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    NO MAXVALUE
    CACHE 1;

--
-- Name: SEQUENCE floor; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON SEQUENCE pgquorum.floor IS 'The highest purge horizon that there ever was, as an hlc: only writes under it have to ask for the one of their collection. May also be of one that was rolled back.';

--
-- Name: gateway_request; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.gateway_request (
    request uuid NOT NULL,
    body_hash text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE gateway_request; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.gateway_request IS 'Idempotency keys seen by this node with the hash of their body: reuse with another body is refused.';

--
-- Name: heartbeat; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.heartbeat (
    number smallint NOT NULL,
    at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

--
-- Name: TABLE heartbeat; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.heartbeat IS 'Signs of life of this node, published so that an idle edge shows its true lag.';

--
-- Name: horizon; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.horizon (
    collection text NOT NULL,
    shard integer NOT NULL,
    hlc bigint NOT NULL,
    clock jsonb DEFAULT '{}'::jsonb NOT NULL
);

--
-- Name: TABLE horizon; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.horizon IS 'Purge horizon of a shard: versions under it whose key is absent have been purged. No new write may be under it.';

--
-- Name: node; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.node (
    only_row boolean DEFAULT true NOT NULL,
    cluster text NOT NULL,
    name text NOT NULL,
    number smallint NOT NULL,
    spare smallint,
    zone text NOT NULL,
    log text NOT NULL,
    system_identifier text NOT NULL,
    timeline text NOT NULL,
    floors jsonb DEFAULT '{}'::jsonb NOT NULL,
    founded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    joining_since timestamp with time zone,
    started timestamp with time zone,
    former smallint,
    identity_problem text,
    CONSTRAINT node_log CHECK ((log = ANY (ARRAY['wal'::text, 'kafka'::text]))),
    CONSTRAINT node_number CHECK (((number > 0) AND ((spare IS NULL) OR ((spare > 0) AND (number <> spare))))),
    CONSTRAINT node_only_row CHECK (only_row)
);

--
-- Name: TABLE node; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.node IS 'Identity of this node: the one row names the number under which its writes are counted.';

--
-- Name: COLUMN node.spare; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.spare IS 'The number that this node takes when it finds that it was restored, cloned or promoted; null until it has another one.';

--
-- Name: COLUMN node.log; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.log IS 'The change log that this cluster was founded with.';

--
-- Name: COLUMN node.floors; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.floors IS 'Collection -> the highest purge horizon of its shards, as an hlc: no new write may be under it. Kept by a trigger of pgquorum.horizon.';

--
-- Name: COLUMN node.joining_since; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.joining_since IS 'Set while the node is filled: it has no ANN indexes yet and is not asked by gateways. Null when it is one of the masters.';

--
-- Name: COLUMN node.started; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.started IS 'The start of the server since which a replicator has found this to be the database that the other nodes remember.';

--
-- Name: COLUMN node.former; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.former IS 'The number before, while what was written under it is being looked through.';

--
-- Name: COLUMN node.identity_problem; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.identity_problem IS 'Why it is not known whether this is the database that the other nodes remember.';

--
-- Name: identity; Type: VIEW; Schema: pgquorum; Owner: -
--

CREATE VIEW pgquorum.identity AS
 SELECT
        CASE
            WHEN (started = pg_postmaster_start_time()) THEN number
            ELSE pgquorum.unconfirmed_number(number, spare, timeline, started)
        END AS number,
    floors
   FROM pgquorum.node n;

--
-- Name: VIEW identity; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON VIEW pgquorum.identity IS 'The number that writes are made under now: asked by whatever draws a dot.';

--
-- Name: job; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.job (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    kind text NOT NULL,
    arguments jsonb NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    cancel_requested boolean DEFAULT false NOT NULL,
    progress jsonb NOT NULL,
    checkpoint jsonb,
    result jsonb,
    error jsonb,
    failures integer DEFAULT 0 NOT NULL,
    failing_since timestamp with time zone,
    deaths integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    secret jsonb,
    on_cancel text DEFAULT 'ends'::text NOT NULL,
    CONSTRAINT job_on_cancel CHECK ((on_cancel = ANY (ARRAY['ends'::text, 'takes back'::text, 'refused'::text]))),
    CONSTRAINT job_state CHECK ((state = ANY (ARRAY['waiting'::text, 'running'::text, 'done'::text, 'failed'::text, 'cancelled'::text])))
);

--
-- Name: TABLE job; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.job IS 'Long work asked for at this node, its home: run by one of its replicators at a time, under an advisory lock that goes with the runner.';

--
-- Name: COLUMN job.checkpoint; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.job.checkpoint IS 'From where the work goes on when its runner has died; only the work knows what it means.';

--
-- Name: COLUMN job.error; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.job.error IS 'Code and detail of what ended it, or of what it waits for to pass.';

--
-- Name: COLUMN job.failures; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.job.failures IS 'Failures in a row that may pass by themselves, and since when: both begin anew with a new checkpoint.';

--
-- Name: COLUMN job.deaths; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.job.deaths IS 'Runners that went without a word since the last new checkpoint.';

--
-- Name: COLUMN job.due_at; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.job.due_at IS 'Not run before: the pause after a failure.';

--
-- Name: COLUMN job.secret; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.job.secret IS 'Arguments that hold passwords; gone when the job has ended.';

--
-- Name: COLUMN job.on_cancel; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.job.on_cancel IS 'ends: as it is; takes back: it is run once more, to undo what it has done; refused: it has begun what can not be undone.';

--
-- Name: member; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.member (
    number smallint NOT NULL,
    name text NOT NULL,
    zone text NOT NULL,
    spare boolean DEFAULT false NOT NULL,
    retired boolean DEFAULT false NOT NULL,
    url text,
    weight double precision DEFAULT 1 NOT NULL,
    change text,
    change_job uuid,
    CONSTRAINT member_change CHECK ((change = ANY (ARRAY['leaving'::text, 'lost'::text])))
);

--
-- Name: TABLE member; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.member IS 'Numbers given out in this cluster, as this node knows them. A number is never reused.';

--
-- Name: COLUMN member.url; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.member.url IS 'Where processes whose list does not have this node find it: those that were added while the cluster ran. It holds a password; nobody but pgquorum''s own role may read it.';

--
-- Name: COLUMN member.change; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.member.change IS 'leaving: it is being removed; lost: an operator has declared that it will not come back. Then its numbers are retired.';

--
-- Name: COLUMN member.change_job; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.member.change_job IS 'The job that changes it: the last one that was asked for. Another one neither goes on nor takes anything back.';

--
-- Name: migration; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.migration (
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE migration; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.migration IS 'Migrations applied to this database.';

--
-- Name: own; Type: SEQUENCE; Schema: pgquorum; Owner: -
--

CREATE SEQUENCE pgquorum.own
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    NO MAXVALUE
    CACHE 1;

--
-- Name: SEQUENCE own; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON SEQUENCE pgquorum.own IS 'The low 47 bits of the server start that is confirmed (microseconds since 1970), then 16 bits of the number of this node; 0 = ask pgquorum.identity.';

--
-- Name: parked; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.parked (
    id bigint NOT NULL,
    origin smallint NOT NULL,
    collection text NOT NULL,
    key text NOT NULL,
    payload bytea NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE parked; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.parked IS 'Changes that wait because their collection is paused here. Merging is commutative, so they are applied whenever it goes on.';

--
-- Name: parked_id_seq; Type: SEQUENCE; Schema: pgquorum; Owner: -
--

ALTER TABLE pgquorum.parked ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME pgquorum.parked_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: pause; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.pause (
    collection text NOT NULL,
    origin smallint NOT NULL,
    code text NOT NULL,
    sqlstate text,
    reason text NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE pause; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.pause IS 'Collections whose changes of an origin are parked, with the reason.';

--
-- Name: progress; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.progress (
    origin smallint NOT NULL,
    log text NOT NULL,
    stream integer NOT NULL,
    lane integer NOT NULL,
    "position" bigint NOT NULL,
    commit_time timestamp with time zone,
    changes bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

--
-- Name: TABLE progress; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.progress IS 'How far each lane has applied each stream; written in the transaction that applied it.';

--
-- Name: published; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.published (
    format text NOT NULL,
    stream integer NOT NULL,
    generation text NOT NULL,
    "position" bigint NOT NULL
)
WITH (fillfactor='50');

--
-- Name: TABLE published; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.published IS 'How far the changes in this node''s topic have been published again in another format. Written once they are durable there.';

--
-- Name: pulse; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.pulse (
    at timestamp with time zone NOT NULL,
    dot bigint NOT NULL
);

--
-- Name: TABLE pulse; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.pulse IS 'How far this node''s dots were at each heartbeat of the last hour: tells how many changes a peer is behind.';

--
-- Name: record_shape; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.record_shape (
    collection text NOT NULL,
    columns text[] NOT NULL
);

--
-- Name: TABLE record_shape; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.record_shape IS 'The table and columns for which the conflict records of a collection were last completed here.';

--
-- Name: remembered; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.remembered (
    name text NOT NULL,
    number smallint NOT NULL,
    token uuid NOT NULL,
    lsn bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
)
WITH (fillfactor='50');

--
-- Name: TABLE remembered; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.remembered IS 'What this node remembers of the others: their last token and the end of their WAL.';

--
-- Name: request; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.request (
    collection text NOT NULL,
    key text NOT NULL,
    request uuid NOT NULL,
    origin smallint NOT NULL,
    counter bigint NOT NULL,
    hlc bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    clock jsonb
);

--
-- Name: TABLE request; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.request IS 'Gateway requests by key, remembered for a time: two dots of one key with one request are one write.';

--
-- Name: COLUMN request.clock; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.request.clock IS 'What the write had seen, in collections with CRDT fields; null for operations on them.';

--
-- Name: resync; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.resync (
    origin smallint NOT NULL,
    log text NOT NULL,
    reason text NOT NULL,
    phase text NOT NULL,
    collection text,
    shard integer,
    after_key jsonb,
    copied bigint DEFAULT 0 NOT NULL,
    written bigint DEFAULT 0 NOT NULL,
    refused bigint DEFAULT 0 NOT NULL,
    total bigint,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    went_back boolean DEFAULT false NOT NULL,
    CONSTRAINT resync_phase CHECK ((phase = ANY (ARRAY['noting'::text, 'copying'::text])))
)
WITH (fillfactor='50');

--
-- Name: TABLE resync; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.resync IS 'Edges into this node that are being mended: first a position is noted, then all states of the origin are copied. A row goes when all of it is here.';

--
-- Name: COLUMN resync.after_key; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.resync.after_key IS 'The copying goes on behind this key of this collection and shard.';

--
-- Name: COLUMN resync.went_back; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.resync.went_back IS 'This node may have lost what it had of it. Until it is here again the node is not counted by reads at QUORUM and ALL.';

--
-- Name: shard_map; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.shard_map (
    collection text NOT NULL,
    shard integer NOT NULL,
    epoch bigint NOT NULL,
    replicas text[] NOT NULL,
    next text[],
    CONSTRAINT shard_map_replicas CHECK (((cardinality(replicas) > 0) AND (cardinality(next) > 0)))
);

--
-- Name: TABLE shard_map; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.shard_map IS 'Which nodes hold each shard, of collections that not every node holds in full: this node''s copy, which only advances by epoch.';

--
-- Name: COLUMN shard_map.epoch; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.shard_map.epoch IS 'Round of the entry times 65536, plus the number of the node at which the change was proposed: two changes never have one epoch.';

--
-- Name: COLUMN shard_map.replicas; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.shard_map.replicas IS 'Names of nodes, the preferred one first.';

--
-- Name: COLUMN shard_map.next; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.shard_map.next IS 'What the replicas are going to be, while the shard moves.';

--
-- Name: shard_role; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.shard_role (
    collection text NOT NULL,
    shard integer NOT NULL,
    role text DEFAULT 'replica'::text NOT NULL,
    epoch bigint DEFAULT 1 NOT NULL,
    CONSTRAINT shard_role_role CHECK ((role = ANY (ARRAY['replica'::text, 'joining'::text, 'leaving'::text, 'none'::text])))
);

--
-- Name: TABLE shard_role; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.shard_role IS 'What this node is for each shard, with the epoch that is checked in every applying transaction.';

--
-- Name: source; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.source (
    origin smallint NOT NULL,
    log text NOT NULL,
    state text NOT NULL,
    slot text,
    publication oid,
    generation text NOT NULL,
    lanes integer DEFAULT 1 NOT NULL,
    problem text,
    problem_since timestamp with time zone,
    seen_at timestamp with time zone,
    synced bigint DEFAULT 0 NOT NULL,
    fed text DEFAULT ''::text NOT NULL,
    CONSTRAINT source_state CHECK ((state = ANY (ARRAY['creating'::text, 'ready'::text, 'resync'::text])))
);

--
-- Name: TABLE source; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.source IS 'The change logs that this node reads, one row per origin, with what identifies them: a slot or topic of the same name may be another one.';

--
-- Name: COLUMN source.lanes; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.source.lanes IS 'Number of lanes that the rows of progress are complete with.';

--
-- Name: COLUMN source.problem; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.source.problem IS 'Why nothing is applied from there at the moment; null when all is well.';

--
-- Name: COLUMN source.synced; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.source.synced IS 'How often a position was noted anew: who found the one before lost has nothing to say about this one.';

--
-- Name: COLUMN source.fed; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.source.fed IS 'With Kafka: the generation of the capture that feeds the topic. Another one means that changes never came to the topic.';

--
-- Name: throttle; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.throttle (
    only_row boolean DEFAULT true NOT NULL,
    bytes_per_second bigint,
    total_bytes_per_second bigint,
    revision bigint NOT NULL,
    setter uuid NOT NULL,
    set_by text NOT NULL,
    set_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT throttle_only_row CHECK (only_row)
);

--
-- Name: TABLE throttle; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.throttle IS 'The limits on what edges read, null = none. Of the nodes'' rows the one with the greatest (revision, setter) is true. No row = as the settings say.';

--
-- Name: token; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.token (
    token uuid NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE token; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.token IS 'What this node has told others to remember of it: a copy of it that is older than what they remember lacks the last one.';

--
-- Name: unconfirmed_lsn; Type: SEQUENCE; Schema: pgquorum; Owner: -
--

CREATE SEQUENCE pgquorum.unconfirmed_lsn
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    NO MAXVALUE
    CACHE 1;

--
-- Name: SEQUENCE unconfirmed_lsn; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON SEQUENCE pgquorum.unconfirmed_lsn IS 'The end of the WAL before the first write since a server start that was not confirmed.';

--
-- Name: unconfirmed_us; Type: SEQUENCE; Schema: pgquorum; Owner: -
--

CREATE SEQUENCE pgquorum.unconfirmed_us
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    NO MAXVALUE
    CACHE 1;

--
-- Name: SEQUENCE unconfirmed_us; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON SEQUENCE pgquorum.unconfirmed_us IS 'The start of that server, microseconds since 1970; 0, or the start that was confirmed last = nothing is unconfirmed.';

--
-- Name: unfolded; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.unfolded (
    collection text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C"
);

--
-- Name: TABLE unfolded; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.unfolded IS 'Keys whose counters hold increments by request that this node may have to fold into its own cells. Only of this node; never replicated.';

--
-- Name: verified; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.verified (
    collection text NOT NULL,
    shard integer NOT NULL,
    at timestamp with time zone NOT NULL,
    complete boolean NOT NULL,
    differences bigint DEFAULT 0 NOT NULL,
    rounds jsonb
)
WITH (fillfactor='70');

--
-- Name: TABLE verified; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.verified IS 'Shards that this node''s replicator has compared on all nodes.';

--
-- Name: COLUMN verified.complete; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.verified.complete IS 'Whether all nodes were there and ended equal.';

--
-- Name: COLUMN verified.differences; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.verified.differences IS 'Found since the collection was made.';

--
-- Name: COLUMN verified.rounds; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.verified.rounds IS 'The rounds by which the purge horizon of the shard rises.';

--
-- Name: watched; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.watched (
    kind text NOT NULL,
    origin smallint NOT NULL,
    target smallint NOT NULL,
    state text NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE watched; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.watched IS 'States of replicas (origin = target) and edges as the events of this node have told them.';

--
-- Name: change_anchor change_anchor_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.change_anchor
    ADD CONSTRAINT change_anchor_pkey PRIMARY KEY (only_row);

--
-- Name: clock_view clock_view_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.clock_view
    ADD CONSTRAINT clock_view_pkey PRIMARY KEY (only_row);

--
-- Name: collection collection_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.collection
    ADD CONSTRAINT collection_pkey PRIMARY KEY (name);

--
-- Name: collection collection_table; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.collection
    ADD CONSTRAINT collection_table UNIQUE (table_schema, table_name);

--
-- Name: conflict conflict_dot; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.conflict
    ADD CONSTRAINT conflict_dot UNIQUE (collection, key, loser_origin, loser_counter);

--
-- Name: conflict conflict_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.conflict
    ADD CONSTRAINT conflict_pkey PRIMARY KEY (id);

--
-- Name: ddl ddl_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.ddl
    ADD CONSTRAINT ddl_pkey PRIMARY KEY (job);

--
-- Name: dead_letter dead_letter_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (id);

--
-- Name: event_forgotten event_forgotten_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.event_forgotten
    ADD CONSTRAINT event_forgotten_pkey PRIMARY KEY (only_row);

--
-- Name: event event_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (xid, arrival);

--
-- Name: gateway_request gateway_request_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.gateway_request
    ADD CONSTRAINT gateway_request_pkey PRIMARY KEY (request);

--
-- Name: heartbeat heartbeat_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.heartbeat
    ADD CONSTRAINT heartbeat_pkey PRIMARY KEY (number);

--
-- Name: horizon horizon_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.horizon
    ADD CONSTRAINT horizon_pkey PRIMARY KEY (collection, shard);

--
-- Name: job job_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (id);

--
-- Name: member member_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.member
    ADD CONSTRAINT member_pkey PRIMARY KEY (number);

--
-- Name: migration migration_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);

--
-- Name: node node_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (only_row);

--
-- Name: parked parked_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.parked
    ADD CONSTRAINT parked_pkey PRIMARY KEY (id);

--
-- Name: pause pause_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.pause
    ADD CONSTRAINT pause_pkey PRIMARY KEY (collection, origin);

--
-- Name: progress progress_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.progress
    ADD CONSTRAINT progress_pkey PRIMARY KEY (origin, log, stream, lane);

--
-- Name: published published_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.published
    ADD CONSTRAINT published_pkey PRIMARY KEY (format, stream);

--
-- Name: pulse pulse_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.pulse
    ADD CONSTRAINT pulse_pkey PRIMARY KEY (at);

--
-- Name: record_shape record_shape_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.record_shape
    ADD CONSTRAINT record_shape_pkey PRIMARY KEY (collection);

--
-- Name: remembered remembered_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.remembered
    ADD CONSTRAINT remembered_pkey PRIMARY KEY (name);

--
-- Name: request request_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.request
    ADD CONSTRAINT request_pkey PRIMARY KEY (collection, key, request, origin, counter);

--
-- Name: resync resync_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.resync
    ADD CONSTRAINT resync_pkey PRIMARY KEY (origin, log);

--
-- Name: shard_map shard_map_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.shard_map
    ADD CONSTRAINT shard_map_pkey PRIMARY KEY (collection, shard);

--
-- Name: shard_role shard_role_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.shard_role
    ADD CONSTRAINT shard_role_pkey PRIMARY KEY (collection, shard);

--
-- Name: source source_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.source
    ADD CONSTRAINT source_pkey PRIMARY KEY (origin, log);

--
-- Name: throttle throttle_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.throttle
    ADD CONSTRAINT throttle_pkey PRIMARY KEY (only_row);

--
-- Name: token token_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (token);

--
-- Name: unfolded unfolded_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.unfolded
    ADD CONSTRAINT unfolded_pkey PRIMARY KEY (collection, key);

--
-- Name: verified verified_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.verified
    ADD CONSTRAINT verified_pkey PRIMARY KEY (collection, shard);

--
-- Name: watched watched_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.watched
    ADD CONSTRAINT watched_pkey PRIMARY KEY (kind, origin, target);

--
-- Name: conflict_by_collection; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_by_collection ON pgquorum.conflict USING btree (collection, found_at DESC, id);

--
-- Name: conflict_by_kind; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_by_kind ON pgquorum.conflict USING btree (kind, found_at DESC, id);

--
-- Name: conflict_by_origin; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_by_origin ON pgquorum.conflict USING btree (loser_origin, found_at DESC, id);

--
-- Name: conflict_by_state; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_by_state ON pgquorum.conflict USING btree (state, found_at DESC, id);

--
-- Name: conflict_closed; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_closed ON pgquorum.conflict USING btree (state_hlc, id) WHERE (state <> 'open'::text);

--
-- Name: conflict_listing; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_listing ON pgquorum.conflict USING btree (found_at DESC, id);

--
-- Name: conflict_open; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_open ON pgquorum.conflict USING btree (collection, key) WHERE (state = 'open'::text);

--
-- Name: dead_letter_by_key; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX dead_letter_by_key ON pgquorum.dead_letter USING btree (collection, key, at DESC);

--
-- Name: dead_letter_change; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE UNIQUE INDEX dead_letter_change ON pgquorum.dead_letter USING btree (origin, change, sha256(payload));

--
-- Name: dead_letter_listing; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX dead_letter_listing ON pgquorum.dead_letter USING btree (at DESC, id DESC);

--
-- Name: event_at; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX event_at ON pgquorum.event USING btree (at);

--
-- Name: gateway_request_at; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX gateway_request_at ON pgquorum.gateway_request USING btree (at);

--
-- Name: job_finished; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX job_finished ON pgquorum.job USING btree (updated_at, id) WHERE (state = ANY (ARRAY['done'::text, 'failed'::text, 'cancelled'::text]));

--
-- Name: job_listing; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX job_listing ON pgquorum.job USING btree (created_at DESC, id);

--
-- Name: job_unfinished; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX job_unfinished ON pgquorum.job USING btree (created_at, id) WHERE (state = ANY (ARRAY['waiting'::text, 'running'::text]));

--
-- Name: parked_collection; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX parked_collection ON pgquorum.parked USING btree (collection, origin, id);

--
-- Name: request_at; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX request_at ON pgquorum.request USING btree (at);

--
-- Name: conflict conflict_advanced; Type: TRIGGER; Schema: pgquorum; Owner: -
--

CREATE TRIGGER conflict_advanced AFTER UPDATE ON pgquorum.conflict FOR EACH ROW WHEN (((new.state IS DISTINCT FROM old.state) OR (new.state_hlc IS DISTINCT FROM old.state_hlc))) EXECUTE FUNCTION pgquorum.conflict_event();

ALTER TABLE pgquorum.conflict ENABLE ALWAYS TRIGGER conflict_advanced;

--
-- Name: conflict conflict_completed; Type: TRIGGER; Schema: pgquorum; Owner: -
--

CREATE TRIGGER conflict_completed BEFORE INSERT ON pgquorum.conflict FOR EACH ROW WHEN ((new.loser_row IS NOT NULL)) EXECUTE FUNCTION pgquorum.complete_record();

ALTER TABLE pgquorum.conflict ENABLE ALWAYS TRIGGER conflict_completed;

--
-- Name: conflict conflict_found; Type: TRIGGER; Schema: pgquorum; Owner: -
--

CREATE TRIGGER conflict_found AFTER INSERT ON pgquorum.conflict FOR EACH ROW WHEN ((new.kind <> 'replaced'::text)) EXECUTE FUNCTION pgquorum.conflict_event();

ALTER TABLE pgquorum.conflict ENABLE ALWAYS TRIGGER conflict_found;

--
-- Name: member hold_members; Type: TRIGGER; Schema: pgquorum; Owner: -
--

CREATE TRIGGER hold_members BEFORE INSERT OR DELETE OR UPDATE ON pgquorum.member FOR EACH STATEMENT EXECUTE FUNCTION pgquorum.hold_members();

--
-- Name: horizon horizon_floor; Type: TRIGGER; Schema: pgquorum; Owner: -
--

CREATE TRIGGER horizon_floor AFTER INSERT OR DELETE OR UPDATE ON pgquorum.horizon FOR EACH ROW EXECUTE FUNCTION pgquorum.keep_floor();

--
-- Name: job job_secret; Type: TRIGGER; Schema: pgquorum; Owner: -
--

CREATE TRIGGER job_secret BEFORE UPDATE ON pgquorum.job FOR EACH ROW WHEN (((new.secret IS NOT NULL) AND (new.state = ANY (ARRAY['done'::text, 'failed'::text, 'cancelled'::text])))) EXECUTE FUNCTION pgquorum.forget_secret();

--
-- Name: node node_own; Type: TRIGGER; Schema: pgquorum; Owner: -
--

CREATE TRIGGER node_own AFTER UPDATE OF number, started ON pgquorum.node FOR EACH ROW EXECUTE FUNCTION pgquorum.forget_own();

--
-- Name: shard_map shard_map_collection; Type: FK CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.shard_map
    ADD CONSTRAINT shard_map_collection FOREIGN KEY (collection) REFERENCES pgquorum.collection(name) ON DELETE CASCADE;

--
-- Name: shard_role shard_role_collection; Type: FK CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.shard_role
    ADD CONSTRAINT shard_role_collection FOREIGN KEY (collection) REFERENCES pgquorum.collection(name) ON DELETE CASCADE;

--
-- Name: verified verified_collection; Type: FK CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.verified
    ADD CONSTRAINT verified_collection FOREIGN KEY (collection) REFERENCES pgquorum.collection(name) ON DELETE CASCADE;

--
-- PostgreSQL database dump complete
--

\unrestrict pgquorum
