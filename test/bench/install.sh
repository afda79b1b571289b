#!/bin/sh
# Installs the proxies that `make bench` compares with, where they are missing.
# What cannot be installed is left out of the tables.
set -eu

missing=
command -v haproxy >/dev/null 2>&1 || [ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
command -v mitmdump >/dev/null 2>&1 || missing="$missing mitmproxy"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	echo "missing, and this is no Debian-like system:$missing" >&2
	exit 0
fi
as_root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null 2>&1 || { echo "missing, and no sudo to install them:$missing" >&2; exit 0; }
	as_root=sudo
fi
echo "installing:$missing"
$as_root apt-get -o DPkg::Lock::Timeout=300 update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
# Debian starts it as a service, which nobody has asked for.
case "$missing" in *haproxy*) $as_root systemctl disable --now haproxy >/dev/null 2>&1 || true ;; esac
