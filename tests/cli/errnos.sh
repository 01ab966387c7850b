# Every system call of the table, with each argument at each of a set of values, natively and under
# km: the same results. errnos_cases.h has what is left out. ERRNOS='read write' does only these.

errnos=$OUT/errnos
compile "$errnos" "$here/errnos.c" -std=gnu11 -D_GNU_SOURCE -I. -Wextra -Wno-unused-result \
  -Wno-missing-field-initializers -static-pie -fPIE -pthread ||
  { fail errnos 'does not compile'; summary; }

# Whose native results depend on the processor: km's is one without protection keys.
differs=
grep -qw ospke /proc/cpuinfo && differs=" pkey_free pkey_mprotect "

# one_run RESULT COMMAND...: a fresh folder, its results, what was printed, and the status. Descriptor 0 is a
# pipe at its end: of /dev/null a caller who may would change the mode and the times.
one_run() {
  local result=$1 folder=$TMP/errnos status=0
  shift
  rm -rf "$folder" && mkdir "$folder"
  { (cd "$folder" && exec timeout -k 5 60 "$@") >"$result.printed" 2>&1 < <(:) || status=$?; } 2>/dev/null
  { tr -d '\000' <"$folder/results"; cat "$result.printed"; echo "status $status"; } >"$result" 2>/dev/null
}

# A difference must come three times: on a busy machine a call may be interrupted that does not wait.
same_results() {
  local tries=3
  for _ in $(seq $tries); do
    one_run "$TMP/native" "$errnos" "$1"
    one_run "$TMP/under-km" "$KM" "$errnos" "$1"
    tail -n 1 "$TMP/native" | grep -qx 'status 0' && cmp -s "$TMP/native" "$TMP/under-km" && return 0
  done
  diff "$TMP/native" "$TMP/under-km" >"$TMP/.diff"
  return 1
}

"$errnos" list >"$TMP/errnos-rows"
for name in ${ERRNOS:-$(awk '($2 == "full" || $2 == "partial") && $3 == "called" { print $1 }' "$TMP/errnos-rows")}; do
  if [[ $differs = *" $name "* ]]; then skip "errnos.$name" 'this processor has protection keys'
  elif same_results "$name"; then pass "errnos.$name"
  else fail "errnos.$name" 'differs from the native run (< native, > km)' "$TMP/.diff"; fi
done

# What has no support says so: ENOSYS, or what the row's caveat begins with.
awk '$2 == "later" { print $1, "ENOSYS" }
     $2 == "refused" { sub(":.*", "", $4); print $1, $4 }
     END { print "status 0" }' "$TMP/errnos-rows" >"$TMP/wanted"
one_run "$TMP/under-km" "$KM" "$errnos" unsupported
if cmp -s "$TMP/wanted" "$TMP/under-km"; then pass errnos-unsupported
else
  diff "$TMP/wanted" "$TMP/under-km" >"$TMP/.diff"
  fail errnos-unsupported 'differs (< table, > km)' "$TMP/.diff"
fi
