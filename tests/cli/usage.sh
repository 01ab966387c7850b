# Options: what they do, and what is no option.

refused no-program 125 '--help' "$KM"
refused unknown-option 125 'no-such-option' "$KM" --no-such-option "$hello"
refused log-level 125 'loud' "$KM" --log=loud "$hello"
refused env-without-value 125 'NOEQUALS' "$KM" --env NOEQUALS "$hello"
for time in 0 30 0s -5s inf 9000h soon ''; do
  refused "idle-exit=$time" 125 '--idle-exit takes a time' "$KM" "--idle-exit=$time" "$hello"
done
refused dontdump 125 "--dontdump takes keep or zero, not 'some'" "$KM" --dontdump=some "$hello"
refused trace-regex 125 '(' "$KM" '--trace=(' "$hello"

limited "$KM" --version >"$TMP/version" 2>&1
if [[ $? = 0 && $(<"$TMP/version") =~ ^km\ [0-9]+\.[0-9]+ ]]; then pass version
else fail version 'not "km N.N", exit 0' "$TMP/version"; fi

limited "$KM" --help >"$TMP/help" 2>"$TMP/errors"
status=$?
missing=
for option in --env --clear-env --no-aslr --snapshot --trace --stats --log --version; do
  grep -q -e "$option" "$TMP/help" || missing="$missing $option"
done
if [ $status = 0 ] && [ -z "$missing" ] && [ ! -s "$TMP/errors" ]; then pass help
else fail help "status $status, on standard output missing:$missing" "$TMP/errors"; fi

# Options of the program are its own; `--` ends km's.
args='[PROBE]
[args]
[--version]
[-x]
[--]
[]
[a b]'
expect_output program-options "${args/PROBE/$probe}" "$KM" "$probe" args --version -x -- '' 'a b'
expect_output end-of-options "${args/PROBE/$probe}" "$KM" -- "$probe" args --version -x -- '' 'a b'

sorted_env() { limited "$@" | LC_ALL=C sort; }
says env-added 'A=1
B=2 3=4' sorted_env env -i "$KM" --env A=1 --env 'B=2 3=4' "$probe" env
says env-replaced 'A=2' sorted_env env -i A=1 "$KM" --env A=2 "$probe" env
says env-empty-value 'A=' sorted_env env -i A=1 "$KM" --env A= "$probe" env
says env-cleared 'A=2' sorted_env env X=1 "$KM" --clear-env --env A=2 "$probe" env
expect_output env-cleared-all '' "$KM" --clear-env "$probe" env
expect_output env-passed 'X=1
Y=' env -i X=1 Y= "$KM" "$probe" env

fixed=$(limited "$KM" --no-aslr "$probe" addresses)
expect_output no-aslr "$fixed" "$KM" --no-aslr "$probe" addresses
first=$(limited "$KM" "$probe" addresses) second=$(limited "$KM" "$probe" addresses)
different=ok
for i in 2 4 6 8 10 12; do
  [ "$(cut -d' ' -f$i <<<"$first")" != "$(cut -d' ' -f$i <<<"$second")" ] || different="field $i"
done
if [ -n "$first" ] && [ "$different" = ok ]; then pass aslr
else fail aslr "two runs have the same address ($different): $first"; fi

limited "$KM" --trace "$hello" >"$TMP/out" 2>"$TMP/trace"
if [ "$(<"$TMP/out")" = 'Hello, world!' ] && grep -q 'write(1, "Hello, world!\\n", 14) *= 14' "$TMP/trace"
then pass trace
else fail trace 'no line: write(1, "Hello, world!\n", 14) = 14' "$TMP/trace"; fi
limited "$KM" --trace='^write$' "$hello" >"$TMP/out" 2>"$TMP/trace"
if grep -q 'write(1,' "$TMP/trace" && ! grep -q 'brk(' "$TMP/trace"; then pass trace-regex-selects
else fail trace-regex-selects 'not just write' "$TMP/trace"; fi
limited "$KM" --stats "$hello" >"$TMP/out" 2>"$TMP/stats"
if [ "$(<"$TMP/out")" = 'Hello, world!' ] && grep -q 'write' "$TMP/stats"; then pass stats
else fail stats 'no table with write' "$TMP/stats"; fi
