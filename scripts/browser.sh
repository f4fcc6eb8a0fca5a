#!/bin/sh
# Has Debian's headless Chromium and its driver installed where they are missing.
set -eu

packages="chromium chromium-driver"
fail() {
    echo "browser: $1; install $packages (as root: apt-get install $packages) and try again" >&2
    exit 1
}

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
command -v apt-get >/dev/null || fail "chromium or chromedriver is missing, and apt-get is too"
become=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "chromium or chromedriver is missing, and neither root nor sudo is there to install them"
    become="sudo -n"
fi
echo "browser: installing $packages"
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
