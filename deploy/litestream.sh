#!/bin/sh
# The service with Litestream beside it, which copies the record to a bucket; deploy/Dockerfile, target litestream.
set -eu

# A new volume belongs to root: a folder in it is given to the service's user, who does all the rest.
if [ "$(id -u)" = 0 ]; then
  install -d -o 10001 -g 10001 -m 0700 "$RECEIVER_DATA_DIR"
  exec setpriv --reuid=10001 --regid=10001 --clear-groups --bounding-set=-all --no-new-privs sh "$0"
fi

# Where there is no record, the one in the bucket is restored first; a bucket that cannot be asked ends the start.
exec litestream replicate -config "${LITESTREAM_CONFIG:-/etc/litestream.yml}" -restore-if-db-not-exists \
  -exec "receiver serve"
