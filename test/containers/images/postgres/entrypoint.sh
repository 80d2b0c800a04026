#!/bin/bash
# What the official image's entry point does, as far as our compose file uses it: a first start makes the data folder, the superuser and
# the database that the environment names, and runs /docker-entrypoint-initdb.d while no network client can connect.
set -euo pipefail

if [ "${1:-}" = postgres ] && [ "$(id -u)" = 0 ]; then
  install --directory --owner postgres --group postgres --mode 0700 "$PGDATA"
  chown -R postgres:postgres "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi

if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?must be set for a first start}"
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  initdb --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-local=trust --auth-host=scram-sha-256
  printf '\nhost all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
  pg_ctl --options="-c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" --wait start
  run() { psql --host=/var/run/postgresql --username="$user" --no-psqlrc --set=ON_ERROR_STOP=1 "$@"; }
  [ "$database" = postgres ] || run --dbname=postgres --command="create database \"$database\""
  for file in /docker-entrypoint-initdb.d/*.sql; do
    [ -e "$file" ] || continue
    echo "running $file"
    run --dbname="$database" --file="$file"
  done
  pg_ctl --mode=fast --wait stop
fi

if [ "${1:-}" = postgres ]; then
  shift
  # Both are defaults of the official image's configuration: reachable from other containers, and the socket where clients look for it.
  set -- postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql "$@"
fi
exec "$@"
