-- Run once by a superuser on each master, before pgquorum first connects: everything after this is done by the role, which is no superuser.
-- docker-compose.yml mounts it where the Postgres images look for start-up files; by hand:
--   ROLE_PASSWORD=… psql --dbname=postgres --file=docker/bootstrap.sql
\set ON_ERROR_STOP on
\getenv role_password ROLE_PASSWORD

create role pgquorum login replication password :'role_password';
-- The role is named like pgquorum's own schema, which "$user" would put first.
alter role pgquorum set search_path = public;
create database pgquorum owner pgquorum;

\connect pgquorum
create extension vector with schema public;
