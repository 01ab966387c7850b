# Standard input, output and errors are the program's.

limited "$KM" "$probe" both >"$TMP/out" 2>"$TMP/err" </dev/null
if [ "$(<"$TMP/out")" = out ] && [ "$(<"$TMP/err")" = err ]; then pass output-and-errors
else fail output-and-errors 'they do not come out where they belong' "$TMP/err"; fi

# A megabyte or two through pipes and files.
head -c 3000000 /dev/urandom >"$TMP/random"
wanted=$(sha256sum <"$TMP/random")
cat=$(command -v cat)
through_pipes() { "$cat" "$TMP/random" | limited "$KM" "$cat" | "$cat" | sha256sum; }
says through-pipes "$wanted" through_pipes
through_files() {
  limited "$KM" "$cat" <"$TMP/random" >"$TMP/copy" && sha256sum <"$TMP/copy"
}
says through-files "$wanted" through_files
appended() {
  echo first >"$TMP/log"
  limited "$KM" "$probe" both >>"$TMP/log" 2>/dev/null
  cat "$TMP/log"
}
says append $'first\nout' appended
# Both read from one description: what km's program leaves is there for the next.
shared_offset() { (limited "$KM" "$(command -v dd)" bs=4 count=1 status=none; cat) <<<'1234rest'; }
says shared-offset '1234rest' shared_offset

broken_pipe() {
  limited "$KM" "$(command -v yes)" 2>"$TMP/.errors" | head -n 1
  echo "${PIPESTATUS[0]}"
}
says broken-pipe $'y\n141' broken_pipe
closed_output() {
  limited "$KM" "$probe" both >&- 2>/dev/null
  echo "$?"
}
native_closed_output() {
  "$probe" both >&- 2>/dev/null
  echo "$?"
}
says closed-output "$(native_closed_output)" closed_output
closed_input() {
  limited "$KM" "$cat" <&- 2>&1
  echo "$?"
}
says closed-input "$("$cat" <&- 2>&1; echo $?)" closed_input

# What km itself writes to a standard error that nobody reads brings the program no SIGPIPE: by its main
# thread, of a snapshot that is refused, and by the program's own, of what they do.
unread=$OUT/unread
compile "$unread" "$here/unread.c"
unread_errors() {
  local fifo=$TMP/unread status=0
  rm -f "$fifo"
  mkfifo "$fifo"
  exec 8<>"$fifo" 9>"$fifo" 8<&-
  limited "$KM" "$@" --snapshot="$TMP/nowhere/file" "$unread" 2>&9 9>&- || status=$?
  exec 9>&-
  echo "$status"
}
says errors-that-nobody-reads $'refused, wrote 65536\n3' unread_errors
says trace-that-nobody-reads $'refused, wrote 65536\n3' unread_errors --trace
