#!/bin/sh
# Fetches the vendored htmx anew and prints what vendor.toml has to say of it: deploy/renew-vendored.sh 2.0.11
set -eu
version=${1:?which version}
vendor=$(cd "$(dirname "$0")/../receiver/web/static/vendor" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "htmx.org@$version" > packed # npm checks the archive against the integrity it was published with
archive=$(tail -n 1 packed)
tar -xzf "$archive"
cp package/dist/htmx.min.js "$vendor/htmx.min.js"
cp package/LICENSE "$vendor/htmx.LICENSE.txt"
echo "version = \"$version\""
echo "sha256 = \"$(sha256sum package/dist/htmx.min.js | cut -d ' ' -f 1)\""
echo "integrity = \"sha512-$(openssl dgst -sha512 -binary "$archive" | openssl base64 -A)\""
