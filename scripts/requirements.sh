#!/bin/sh
# requirements.sh - which requirements of tests/requirements.txt does no test name?
# Prints those rows and ends with 1 when there is any. A test names an ID in its text or comments.
set -eu
cd "$(dirname "$0")/.."

table=tests/requirements.txt
missing=0
total=0
tab=$(printf '\t')
all=$(find tests -type f \( -name '*.c' -o -name '*.py' -o -name '*.sh' \) -exec cat {} +)
while IFS="$tab" read -r id meaning; do
	case $id in '' | '#'*) continue ;; esac
	total=$((total + 1))
	if ! printf '%s\n' "$all" | grep -qwF -e "$id"; then
		printf 'no test for %s: %s\n' "$id" "$meaning"
		missing=$((missing + 1))
	fi
done <"$table"
printf 'requirements: %d of %d have a test\n' $((total - missing)) "$total"
[ "$missing" -eq 0 ]
