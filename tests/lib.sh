# Helpers for the test suites (bash). A suite prints one line a test and tests/run-all counts them:
#
#   ok NAME            FAIL NAME: why            skip NAME: why
#
# Usage, in tests/SUITE/run:
#
#   #!/bin/bash
#   . "$(dirname "$0")/../lib.sh"
#   need_kvm SUITE                          ends the suite when there is no /dev/kvm
#   compile "$OUT/hello" tests/guest/hello.c -static
#   check hello "$KM" "$OUT/hello"          passes when the command exits 0
#   check_status 125 not-elf "$KM" Makefile  ... when it exits with that status
#   expect_output hello 'Hello' "$KM" "$OUT/hello"   ... exits 0 and prints just that (stdout)
#   same_as_native hello "$OUT/hello" world     same stdout and status under km as without
#   has_tool lua lua5.4 && check ...        skips the test when the tool is missing
#   skip NAME WHY;  pass NAME;  fail NAME WHY [FILE-TO-SHOW]
#   summary                                 last line of the suite: its exit status
#
# Sets ROOT (the repository, also the working directory), BUILD, KM, KMCTL (absolute paths), OUT
# (compiled programs, kept between runs) and TMP (a fresh directory, removed at the end). Every
# command has TEST_TIMEOUT seconds (60). What a failed command printed is shown, indented; so lines of
# its own never look like results.

set -u
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1
BUILD=${BUILD:-build}
[[ $BUILD = /* ]] || BUILD=$ROOT/$BUILD
KM=$BUILD/km
KMCTL=$BUILD/kmctl
OUT=$BUILD/$(basename "$(dirname "$(realpath "$0")")")-tests
TMP=$(mktemp -d)
chmod 755 "$TMP"
mkdir -p "$OUT"
trap 'rm -rf "$TMP"' EXIT
failed_count=0

pass() { echo "ok $1"; }
skip() { echo "skip $1: $2"; }
fail() {
  echo "FAIL $1: $2"
  if [ $# -gt 2 ] && [ -s "$3" ]; then tail -n 40 "$3" | tr -d '\000' | sed 's/^/    | /'; fi
  failed_count=$((failed_count + 1))
}
summary() { [ "$failed_count" = 0 ]; exit; }

limited() { timeout -k 5 "${TEST_TIMEOUT:-60}" "$@"; }

# What a status means, for people.
status_name() {
  case $1 in
    124) echo "took longer than ${TEST_TIMEOUT:-60} s" ;;
    *) echo "exit status $1" ;;
  esac
}

check() { check_status 0 "$@"; }

check_status() {
  local wanted=$1 name=$2 status=0
  shift 2
  limited "$@" >"$TMP/.output" 2>&1 </dev/null || status=$?
  if [ "$status" = "$wanted" ]; then pass "$name"
  else fail "$name" "$(status_name $status), not $wanted: $*" "$TMP/.output"; fi
}

expect_output() {
  local name=$1 wanted=$2 status=0
  shift 2
  limited "$@" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  if [ $status != 0 ]; then fail "$name" "$(status_name $status): $*" "$TMP/.errors"
  elif [ "$(tr -d '\000' <"$TMP/.output")" != "$wanted" ]; then
    diff <(echo "$wanted") "$TMP/.output" >"$TMP/.diff"
    fail "$name" "output differs (< wanted, > got): $*" "$TMP/.diff"
  else pass "$name"; fi
}

same_as_native() {
  local name=$1 native=0 status=0
  shift
  limited "$@" >"$TMP/.native" 2>"$TMP/.errors" </dev/null || native=$?
  limited "$KM" "$@" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  if [ $status != $native ]; then
    fail "$name" "$(status_name $status), natively $(status_name $native): $*" "$TMP/.errors"
  elif ! cmp -s "$TMP/.native" "$TMP/.output"; then
    diff -a "$TMP/.native" "$TMP/.output" >"$TMP/.diff"
    fail "$name" "output differs (< native, > km): $*" "$TMP/.diff"
  else pass "$name"; fi
}

# compile OUTPUT SOURCE [FLAGS...]: with CC (cc), when SOURCE or a header is newer than OUTPUT.
compile() {
  local output=$1 source=$2 compiler=${CC:-cc}
  shift 2
  if [ "$output" -nt "$source" ] &&
    [ -z "$(find "$(dirname "$source")" include -name '*.h' -newer "$output" -print -quit)" ]; then
    return 0
  fi
  mkdir -p "$(dirname "$output")"
  "$compiler" -O2 -g -Wall -Iinclude -o "$output" "$source" "$@"
}

has_tool() {
  command -v "$2" >/dev/null && return 0
  skip "$1" "$2 is not installed (tools/setup test)"
  return 1
}

# A machine without KVM skips, visibly; in CI that is a failure.
need_kvm() {
  [ -r /dev/kvm ] && [ -w /dev/kvm ] && return 0
  if [ -n "${CI:-}" ]; then fail "$1" "/dev/kvm is missing or not ours, and CI is set"
  else skip "$1" "/dev/kvm is missing or not ours"; fi
  summary
}
