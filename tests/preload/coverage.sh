#!/bin/sh
# Which differential program exercises which call of preload/symbols.h and which socket option of
# preload/options_table.c: what the compiled programs reference, and names that they look up by "name".
# usage: coverage.sh DIRECTORY-OF-PROGRAMS [-v]     Fails if something is exercised by none.
set -u
dir=$1
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
names=$(grep -ohE '^[[:space:]]*X\([a-z0-9]+, [^,]+, [A-Za-z_0-9]+' "$top/preload/symbols.h" | sed 's/.*, //; s/.* \**//' | sort -u)
# rows are SO(NAME, ...), TCP(, IPV4(, IPV6(; NO_INT(LEVEL, NAME, ...); or have the name as text
table=$top/preload/options_table.c
options=$({
	grep -oE '\b(SO|TCP|IPV4|IPV6)\([A-Z0-9_]+' "$table" | sed 's/IPV4(/IP(/; s/(/_/'
	grep -oE '\bNO_INT\([A-Z_]+, [A-Z0-9_]+' "$table" | sed 's/.*, //'
	grep -oE '"(SO|TCP|IP|IPV6)_[A-Z0-9_]+"' "$table" | tr -d '"'
} | sort -u)
for f in "$here"/*.c; do
	p=${f##*/} p=${p%.c}
	case $p in both_peer | peer) continue ;; esac
	[ -x "$dir/$p" ] && nm -D -u "$dir/$p" | awk -v p="$p" '{ sub(/@.*/, "", $2); print $2, p }'
	grep -oE '"[A-Za-z_0-9]+"|\b(SO|TCP|IP|IPV6)_[A-Z0-9_]+\b' "$f" | tr -d '"' | sort -u | sed "s/\$/ $p/"
done | sort -u >"$dir/.coverage"
missing=0
for n in $names $options; do
	by=$(awk -v n="$n" '$1 == n { printf " %s", $2 }' "$dir/.coverage")
	[ "${2:-}" = -v ] && echo "$n:$by"
	if [ -z "$by" ] && ! grep -q "^$n	" "$here/not-covered"; then
		echo "no differential program exercises $n"
		missing=$((missing + 1))
	fi
done
total=$(echo "$names $options" | wc -w)
echo "coverage: $total calls and options, $missing without a differential program, $(grep -vc '^#' "$here/not-covered") excused"
[ $missing = 0 ]
