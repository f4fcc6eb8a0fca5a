#!/bin/sh
# Has Debian's packages installed whose commands are missing.
#
#     scripts/debian.sh chromium=chromium chromedriver=chromium-driver      (COMMAND=PACKAGE)
set -eu

packages=
for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || packages="$packages ${pair#*=}"
done
[ -n "$packages" ] || exit 0

fail() {
    echo "debian: $1; install$packages (as root: apt-get install$packages) and try again" >&2
    exit 1
}
command -v apt-get >/dev/null || fail "commands are missing, and apt-get is too"
become=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "commands are missing, and neither root nor sudo is there to install them"
    become="sudo -n"
fi
echo "debian: installing$packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for pause in 2 10 0; do
    if $become apt-get update -qq >"$log" 2>&1 &&
        $become env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >>"$log" 2>&1; then
        exit 0
    fi
    sleep "$pause"
done
cat "$log" >&2
fail "apt-get failed three times"
