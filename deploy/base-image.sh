#!/bin/sh
# Makes the base image of deploy/Dockerfile from Debian's packages, for where no image registry can be reached.
# Needs root, debootstrap and a running Docker engine.  This machine's CA certificates go into it, so that pip works
# behind a proxy that they vouch for.
#   sudo deploy/base-image.sh [NAME]
set -eu
name=${1:-python:3.11-slim-bookworm}
if docker image inspect "$name" >/dev/null 2>&1; then
  echo "$name is there already"
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder"
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/usr/share/doc/* "$folder"/usr/share/man/* \
  "$folder"/usr/share/locale/*
tar --directory "$folder" --create . | docker import - "$name"
