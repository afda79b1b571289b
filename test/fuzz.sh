#!/bin/sh
# Runs every fuzz target of the main module for the time or the number of inputs given.
set -eu
cd "$(dirname "$0")/.."
time=${1:-10000x}
found=0
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		found=$((found + 1))
		echo "fuzz $(dirname "$file") $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 100x -parallel 2 "./$(dirname "$file")"
	done
done
[ "$found" -gt 0 ] || { echo "no fuzz targets were found" >&2; exit 1; }
