#!/bin/bash
# As the official image does: KAFKA_LOG_DIRS becomes log.dirs, `__` stands for `_` and `___` for `-`; the storage is formatted once.
set -euo pipefail

config=/opt/kafka/config/server.properties
: > "$config"
while IFS='=' read -r name value; do
  case $name in
    KAFKA_HEAP_OPTS | KAFKA_OPTS) continue ;;
    KAFKA_*) ;;
    *) continue ;;
  esac
  key=$(printf '%s' "${name#KAFKA_}" | tr '[:upper:]' '[:lower:]' | sed -e 's/___/-/g' -e 's/__/\x01/g' -e 's/_/./g' -e 's/\x01/_/g')
  printf '%s=%s\n' "$key" "$value" >> "$config"
done < <(env)

java -cp '/opt/kafka/libs/*' kafka.tools.StorageTool format --ignore-formatted --cluster-id "$CLUSTER_ID" --config "$config"
# shellcheck disable=SC2086 # options, separated by spaces
exec java ${KAFKA_HEAP_OPTS:--Xmx1G} -Dlog4j2.configurationFile=/opt/kafka/config/log4j2.properties -cp '/opt/kafka/libs/*' kafka.Kafka "$config"
