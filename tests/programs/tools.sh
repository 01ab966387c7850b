# Everyday tools on a few MiB of text.

text=$TMP/text
awk 'BEGIN { srand(1); for (i = 0; i < 60000; i++)
  printf "%d %s%d the quick brown fox %d\n", rand() * 1e9, "word", i % 977, i * i % 65537 }' >"$text"

# run_tool PROGRAM NAME ARGUMENTS...: skips what is not installed.
run_tool() {
  local program=$1 name=$2
  shift 2
  if has_tool "$name" "$program"; then same "$name" "$(command -v "$program")" "$@"; fi
}
applet() { run_tool busybox "busybox-$1" "${@:2}"; }

run_tool sort sort-parallel --parallel=4 -S 2M -k2,2 -k1,1n "$text" -o sorted
run_tool sort sort-merge -m "$text" "$text" -o merged
run_tool sha256sum sha256sum "$text" /bin/bash
run_tool b2sum b2sum "$text"
run_tool wc wc "$text"
run_tool grep grep-regex -nE '(word9[0-9]{2}).*(1{2}|77)$' "$text"
run_tool grep grep-recursive -rn 'KM_ASSIGN_OR_RETURN' "$ROOT/km"
run_tool sed sed-program -n '/word97[0-6]/{s/the \(.*\) fox/<\1>/;p}' "$text"
run_tool mawk mawk '{ s[$2] += $7 } END { n = 0; for (k in s) n += s[k]; print n, NR }' "$text"
run_tool tar tar-create --sort=name --mtime=@0 --owner=0 --group=0 -cf archive.tar -C "$ROOT" km include docs
run_tool find find-print "$ROOT/km" -name '*.h' -size +1k -newermt 2000-01-01
run_tool ls ls-long -laR --full-time "$ROOT/include" "$ROOT/docs"
run_tool du du -ab "$ROOT/include"
run_tool diff diff-recursive -r "$ROOT/km/base" "$ROOT/km/files"
run_tool cmp cmp "$text" /bin/bash
run_tool cp cp-tree -a "$ROOT/include" .
run_tool dd dd-seek if="$text" of=out bs=4k count=50 seek=20 skip=3 status=none
run_tool xxd xxd "$ROOT/Makefile"
run_tool od od -A x -t x1z "$ROOT/Makefile"
run_tool split split -l 7000 "$text" part-
run_tool cut cut -d' ' -f2,7 "$text"
run_tool tr tr a-z A-Z
run_tool shuf shuf --random-source="$text" -n 100 "$text"
run_tool numfmt numfmt --to=iec 123456789
run_tool date date -u -d '2024-02-29 + 1 year'
run_tool factor factor 18446744073709551557 600851475143
run_tool gzip gzip-file -9 -n -c "$text"
run_tool bzip2 bzip2-file -c "$text"
run_tool xz xz-threads -T3 --block-size=1MiB -c "$text"
run_tool zstd zstd-threads -T2 -q -c "$text"
run_tool openssl openssl dgst -sha3-256 "$text"
run_tool file file-many /bin/bash "$ROOT/Makefile" "$text" /usr/share/misc/magic.mgc
run_tool git git-log -C "$ROOT" --no-pager log --format='%h %s' -n 5
run_tool git git-hash hash-object "$text"
applet sort sort -k2 "$text"
applet awk awk '{ s += $1 } END { print s, NR }' "$text"
applet bzip2 bzip2 -c "$text"
applet sha512sum sha512sum "$text"
applet tar tar -cf archive.tar -C "$ROOT" include
applet dc dc -e '2 500 ^ p'
