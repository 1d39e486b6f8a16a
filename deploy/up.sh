#!/bin/sh
# Starts the docker-compose cluster, waits until every node is healthy and says how to connect.  `make up` runs it.
#   deploy/up.sh [chaos] [monitoring]
set -eu
cd "$(dirname "$0")/.."
docker info >/dev/null 2>&1 || { echo "no Docker engine answers: install one, or start it" >&2; exit 1; }
compose=docker-compose
if docker compose version >/dev/null 2>&1; then compose="docker compose"; fi
for profile in "$@"; do
  case $profile in
    chaos) compose="$compose --profile chaos --env-file deploy/chaos.env" ;;
    monitoring) compose="$compose --profile monitoring" ;;
    *) echo "there is no profile $profile: there are chaos and monitoring" >&2; exit 2 ;;
  esac
done
nodes="controller-1 controller-2 controller-3 broker-1 broker-2 broker-3"
patience_s=${PATIENCE_S:-180}

DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-} docker build --quiet --file deploy/Dockerfile --tag "${GLASSLOG_IMAGE:-glasslog}" . >/dev/null
began=$(date +%s)
$compose up --detach --no-build
while :; do
  missing=
  for node in $nodes; do
    container=$($compose ps --quiet "$node")
    state=$(docker inspect --format '{{.State.Health.Status}}' "$container" 2>/dev/null || echo missing)
    [ "$state" = healthy ] || missing="$missing $node($state)"
  done
  [ -n "$missing" ] || break
  if [ $(($(date +%s) - began)) -ge "$patience_s" ]; then
    echo "not healthy after ${patience_s} s:$missing; see $compose logs" >&2
    exit 1
  fi
  sleep 0.5
done
cat <<EOF
All healthy after $(($(date +%s) - began)) s: three controllers, three brokers on three racks.
  Kafka clients   localhost:19092,localhost:19093,localhost:19094
  glasslog        export GLASSLOG_BOOTSTRAP=localhost:19192,localhost:19193,localhost:19194
  metrics         http://localhost:19644/metrics (19645, 19646)
  stop            make down     (make down VOLUMES=1 forgets the data)
EOF
for profile in "$@"; do
  case $profile in
    chaos) echo "  Toxiproxy       http://localhost:8474 (deploy/toxiproxy.json has its proxies)" ;;
    monitoring) echo "  dashboard       http://localhost:13000, Prometheus http://localhost:19090" ;;
  esac
done
