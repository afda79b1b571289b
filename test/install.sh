#!/bin/sh
# Installs what the tests run against, where it is missing: Debian packages, and
# npm packages in test/npm. Quick when nothing is missing. On a system without
# apt-get it says what is missing; the tests that need it are then skipped.
#
# With --clients also what only `make test-clients` runs, in test/npm-clients: 2 GB.
set -eu
cd "$(dirname "$0")"

clients=
[ "${1:-}" != --clients ] || clients=1

have() { command -v "$1" >/dev/null 2>&1; }

missing=
need() { # need PACKAGE CONDITION...
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

python_has() { /usr/bin/python3 -c "import $1"; }
postgres() { ls /usr/lib/postgresql/*/bin/initdb; }

need git have git
need curl have curl
need wget have wget
need gh have gh
need python3 test -x /usr/bin/python3
need python3-requests python_has requests
need python3-httpx python_has httpx
need openssl have openssl
need zsh have zsh
need busybox have busybox
need gnutls-bin have certtool
need libnss3-tools have certutil
need default-jdk-headless have javac
need chromium have chromium
need postgresql postgres
need nghttp2-client have h2load
need tinyproxy have tinyproxy
need microsocks have microsocks
need nginx-light test -x /usr/sbin/nginx
need awscli test -x /usr/bin/aws
need python3-boto3 python_has boto3
need gnome-keyring have gnome-keyring-daemon
need dbus have dbus-run-session
if [ -n "$clients" ]; then
	need httpie test -x /usr/bin/http
	need git-lfs have git-lfs
	need python3-pip /usr/bin/python3 -m pip --version
	need python3-h2 python_has h2
	for module in aiohttp httplib2 pycurl urllib3 websockets; do
		need "python3-$module" python_has "$module"
	done
	need ruby have ruby
	need php-cli have php
	need php-curl php -r 'exit(function_exists("curl_init") ? 0 : 1);'
	need libwww-perl perl -MLWP::UserAgent -e 1
	need liblwp-protocol-https-perl perl -MLWP::Protocol::https -e 1
	need default-jdk-headless have javac
	# Debian's cargo is older than the indexes of today.
	need cargo-web have cargo
fi
have node || missing="$missing nodejs"
have npm || missing="$missing npm"

if [ -n "$missing" ]; then
	if have apt-get; then
		as_root=
		if [ "$(id -u)" != 0 ]; then
			have sudo || { echo "missing packages, and no sudo to install them:$missing" >&2; exit 1; }
			as_root=sudo
		fi
		echo "installing:$missing"
		$as_root apt-get -o DPkg::Lock::Timeout=300 update -qq
		# shellcheck disable=SC2086
		$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
	else
		echo "missing, and this is no Debian-like system, so their tests are skipped:$missing" >&2
	fi
fi

npm_install() { # npm_install DIRECTORY
	if have npm && ! cmp -s "$1/package-lock.json" "$1/node_modules/.installed"; then
		echo "installing the npm packages of test/$1"
		(cd "$1" && npm ci --no-audit --no-fund --loglevel=error)
		cp "$1/package-lock.json" "$1/node_modules/.installed"
	fi
}
npm_install npm
[ -z "$clients" ] || npm_install npm-clients
