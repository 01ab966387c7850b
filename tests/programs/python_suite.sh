# The interpreter's own regression tests: each case as natively, apart from those that fork.
# PYTHON_MODULES=test_os: only some.

python=/usr/bin/python3
# The long ones first, two modules at a time: most of the time they wait.
modules=${PYTHON_MODULES:-test_asyncio test_io test_signal test_socket test_selectors test_os test_threading test_time
  test_hashlib test_json test_zlib test_select test_thread test_mmap test_fcntl test_struct}
if ! has_tool python3-suite "$python"; then :
elif ! "$python" -c 'import test.test_os' 2>/dev/null; then
  skip python3-suite 'libpython3.11-testsuite is not installed (tools/setup programs)'
else
  suite=$OUT/python-suite
  mkdir -p "$suite"
  one_module() {
    local output=$TMP/$1.output status=0
    TEST_TIMEOUT=1200 limited "$python" "$here/python_suite.py" both "$KM" "$suite" "$1" >"$output" 2>&1 || status=$?
    if [ $status = 0 ]; then pass "python3-$1"; sed 's/^/# /' "$output"
    else fail "python3-$1" "differs from the native run" "$output"; fi
  }
  for module in $modules; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    one_module "$module" >"$TMP/$module.lines" &
  done
  wait
  for module in $modules; do cat "$TMP/$module.lines"; done
  failed_count=$((failed_count + $(cat "$TMP"/*.lines | grep -c '^FAIL' || true)))
fi
