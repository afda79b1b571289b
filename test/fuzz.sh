#!/bin/sh
# Runs every fuzz target of the main module for the time or the number of inputs
# given, one at a time.
#
#	test/fuzz.sh [TIME]           2000x, 1h …
#	test/fuzz.sh --keep [FuzzX]   picks what is checked in of what runs have found
#
# --keep copies from Go's cache to testdata, of each target or of the one named,
# the smallest inputs that reach a statement, or reach it in another order of
# magnitude of times, which no input before them does.
set -eu
cd "$(dirname "$0")/.."

# Up to so many are kept of a target, none of more than 4 KB: `go test` runs all.
most=40

# blocks PROFILE prints each block that was reached, with how often, by powers of 4.
blocks() {
	awk '$NF > 0 { print $1, int(log($NF) / log(4)) }' "$1"
}

# keep DIRECTORY TARGET
keep() {
	dir=$1 target=$2
	cache="$(go env GOCACHE)/fuzz/$(go list "./$dir")/$target"
	corpus="testdata/fuzz/$target"
	[ -d "$cache" ] || return 0
	go test -c -covermode=count -coverpkg=./... -o "$work/test" "./$dir"
	(
		cd "$dir"
		"$work/test" -test.run "^$target\$" -test.coverprofile "$work/profile" >/dev/null
		blocks "$work/profile" | sort -u >"$work/reached"
		mkdir -p "$corpus"
		for input in $(find "$cache" -type f -size -9 -exec ls -Sr {} +); do
			name=$(basename "$input")
			[ "$(find "$corpus" -type f | wc -l)" -lt "$most" ] || break
			[ ! -e "$corpus/$name" ] || continue
			cp "$input" "$corpus/$name"
			# An input of an older form of the target fails.
			if "$work/test" -test.run "^$target\$/^$name\$" -test.coverprofile "$work/profile" >/dev/null 2>&1 &&
				blocks "$work/profile" | sort -u | comm -13 "$work/reached" - >"$work/new" && [ -s "$work/new" ]; then
				sort -u -o "$work/reached" "$work/reached" "$work/new"
			else
				rm "$corpus/$name"
			fi
		done
		rmdir -p "$corpus" 2>/dev/null || true
	)
}

one=
time=2000x
if [ "${1:-}" = --keep ]; then
	one=${2:-all}
else
	time=${1:-$time}
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=0
built=
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		found=$((found + 1))
		dir=$(dirname "$file")
		if [ -z "$one" ]; then
			echo "fuzz $dir $target"
			# As go test does it, but one build for all targets of a package.
			if [ "$built" != "$dir" ]; then
				go test -c -vet=off -fuzz . -o "$work/test" "./$dir"
				built=$dir
			fi
			cache="$(go env GOCACHE)/fuzz/$(go list "./$dir")"
			count=$time
			# Each of these is a life of logins, restarts and requests.
			[ "$time $target" != "2000x FuzzResolve" ] || count=200x
			(cd "$dir" && "$work/test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$count" -test.fuzzminimizetime 100x -test.parallel 2 -test.fuzzcachedir "$cache")
		elif [ "$one" = all ] || [ "$one" = "$target" ]; then
			echo "keep $dir $target"
			keep "$dir" "$target"
		fi
	done
done
[ "$found" -gt 0 ] || { echo "no fuzz targets were found" >&2; exit 1; }
