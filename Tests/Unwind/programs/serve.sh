#!/bin/bash
# SPDX-License-Identifier: MIT
# serve.sh FOLDER SECONDS: makes a database in the folder, serves it, and runs pgbench.
set -eu
folder=$1 seconds=$2
initdb -D "$folder" -A trust -U owner --no-sync >/dev/null
# A socket in the folder alone: neither a port nor a place that others use.
postgres -D "$folder" -c listen_addresses= -c "unix_socket_directories=$folder" -c fsync=off \
    >"$folder/log" 2>&1 &
server=$!
trap 'kill -QUIT "$server"' EXIT
until pgbench -h "$folder" -U owner -i -q postgres >/dev/null 2>&1; do
    kill -0 "$server"
    sleep 0.1
done
pgbench -h "$folder" -U owner -c 2 -T "$seconds" postgres >/dev/null 2>&1
