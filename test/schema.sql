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
-- Name: now_hlc(); Type: FUNCTION; Schema: pgquorum; Owner: -
--

CREATE FUNCTION pgquorum.now_hlc() RETURNS bigint
    LANGUAGE sql PARALLEL SAFE
    RETURN (((EXTRACT(epoch FROM clock_timestamp()) * (1000)::numeric))::bigint << 16);

--
-- Name: FUNCTION now_hlc(); Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON FUNCTION pgquorum.now_hlc() IS 'The wall clock as a hybrid logical clock value.';

SET default_tablespace = '';

SET default_table_access_method = heap;

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
    CONSTRAINT conflict_kind CHECK ((kind = ANY (ARRAY['update-update'::text, 'update-delete'::text, 'delete-update'::text, 'delete-delete'::text, 'insert-insert'::text, 'returned'::text, 'replaced'::text]))),
    CONSTRAINT conflict_state CHECK ((state = ANY (ARRAY['open'::text, 'superseded'::text, 'resolved'::text, 'restored'::text])))
);

--
-- Name: TABLE conflict; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.conflict IS 'Concurrent writes that lost, with their rows: a replicated set by (collection, key, loser''s dot) whose state only advances.';

--
-- Name: COLUMN conflict.loser_row; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.conflict.loser_row IS 'The losing row: column name to text form; null for a losing delete.';

--
-- Name: COLUMN conflict.applied; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.conflict.applied IS 'True when replication wrote this state of the record; such rows are not published again.';

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
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE dead_letter; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.dead_letter IS 'Changes that can not be applied here, with position and payload, for inspection and replay.';

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
-- Name: member; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.member (
    number smallint NOT NULL,
    name text NOT NULL,
    zone text NOT NULL,
    spare boolean DEFAULT false NOT NULL,
    retired boolean DEFAULT false NOT NULL
);

--
-- Name: TABLE member; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.member IS 'Numbers given out in this cluster, as this node knows them. A number is never reused.';

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
-- Name: node; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.node (
    only_row boolean DEFAULT true NOT NULL,
    cluster text NOT NULL,
    name text NOT NULL,
    number smallint NOT NULL,
    spare smallint NOT NULL,
    zone text NOT NULL,
    log text NOT NULL,
    system_identifier text NOT NULL,
    timeline text NOT NULL,
    founded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT node_log CHECK ((log = ANY (ARRAY['wal'::text, 'kafka'::text]))),
    CONSTRAINT node_number CHECK (((number > 0) AND (spare > 0) AND (number <> spare))),
    CONSTRAINT node_only_row CHECK (only_row)
);

--
-- Name: TABLE node; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.node IS 'Identity of this node: the one row names the number under which its writes are counted.';

--
-- Name: COLUMN node.spare; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.spare IS 'The number that this node takes when it finds that it was restored, cloned or promoted.';

--
-- Name: COLUMN node.log; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON COLUMN pgquorum.node.log IS 'The change log that this cluster was founded with.';

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
-- Name: request; Type: TABLE; Schema: pgquorum; Owner: -
--

CREATE TABLE pgquorum.request (
    collection text NOT NULL,
    key text NOT NULL,
    request uuid NOT NULL,
    origin smallint NOT NULL,
    counter bigint NOT NULL,
    hlc bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

--
-- Name: TABLE request; Type: COMMENT; Schema: pgquorum; Owner: -
--

COMMENT ON TABLE pgquorum.request IS 'Gateway requests by key, remembered for a time: two dots of one key with one request are one write.';

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
    CONSTRAINT source_state CHECK ((state = ANY (ARRAY['creating'::text, 'ready'::text])))
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
-- Name: dead_letter dead_letter_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (id);

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
-- Name: pulse pulse_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.pulse
    ADD CONSTRAINT pulse_pkey PRIMARY KEY (at);

--
-- Name: request request_pkey; Type: CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.request
    ADD CONSTRAINT request_pkey PRIMARY KEY (collection, key, request, origin, counter);

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
-- Name: conflict_listing; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_listing ON pgquorum.conflict USING btree (found_at DESC, id);

--
-- Name: conflict_open; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX conflict_open ON pgquorum.conflict USING btree (collection, key) WHERE (state = 'open'::text);

--
-- Name: gateway_request_at; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX gateway_request_at ON pgquorum.gateway_request USING btree (at);

--
-- Name: parked_collection; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX parked_collection ON pgquorum.parked USING btree (collection, origin, id);

--
-- Name: request_at; Type: INDEX; Schema: pgquorum; Owner: -
--

CREATE INDEX request_at ON pgquorum.request USING btree (at);

--
-- Name: shard_role shard_role_collection; Type: FK CONSTRAINT; Schema: pgquorum; Owner: -
--

ALTER TABLE ONLY pgquorum.shard_role
    ADD CONSTRAINT shard_role_collection FOREIGN KEY (collection) REFERENCES pgquorum.collection(name) ON DELETE CASCADE;

--
-- PostgreSQL database dump complete
--

\unrestrict pgquorum
