# Interpreters with something to chew on.

python=/usr/bin/python3
if has_tool python3 "$python"; then
  same python3-work "$python" "$ROOT/$here/python_work.py"
  same python3-compileall "$python" -c 'import ast, pathlib, os
total = 0
for path in sorted(pathlib.Path(os.__file__).parent.glob("*.py"))[:80]:
    total += sum(1 for _ in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))))
print(total)'
  same python3-unittest "$python" -c 'import unittest, io
class T(unittest.TestCase):
    def test_pass(self): self.assertEqual(1, 1)
    def test_fail(self): self.assertEqual(1, 2)
    @unittest.skip("no")
    def test_skip(self): pass
stream = io.StringIO()
result = unittest.TextTestRunner(stream=stream).run(unittest.TestLoader().loadTestsFromTestCase(T))
print(result.testsRun, len(result.failures), len(result.skipped))'
  echo '{"b": [1, 2], "a": null}' >"$TMP/small.json"
  INPUT=$TMP/small.json same python3-json-tool "$python" -m json.tool --sort-keys
  same python3-zipfile "$python" -m zipfile -l /nowhere.zip
  same python3-recursion "$python" -c 'import sys
def f(n): return f(n + 1)
try: f(0)
except RecursionError as e: print(type(e).__name__)'
  same python3-memory "$python" -c 'x = [bytearray(1 << 20) for _ in range(300)]; print(sum(map(len, x)))'
fi
if has_tool perl perl; then
  same perl-sieve perl -e 'my @c; for my $i (2 .. 300000) { next if $c[$i]; for (my $j = $i * $i; $j <= 300000; $j += $i) { $c[$j] = 1 } } print scalar(grep { !$c[$_] } 2 .. 300000), "\n"'
  same perl-regex perl -ne 'while (/\b([a-z]+)(\d+)\b/g) { $n{$1} += $2 } END { print "$_ $n{$_}\n" for sort keys %n }' "$ROOT/km/monitor/monitor.cc" "$ROOT/Makefile"
  same perl-storable perl -MStorable=store,retrieve -MData::Dumper -e '$Data::Dumper::Sortkeys = $Storable::canonical = 1; store({ map { $_ => [1 .. $_] } 1 .. 50 }, "s"); print Dumper(retrieve("s"))'
  same perl-bigint perl -Mbigint -e 'my ($a, $b) = (0, 1); ($a, $b) = ($b, $a + $b) for 1 .. 1500; print "$a\n"'
  same perl-alarm perl -MTime::HiRes=ualarm,sleep -e 'my $n = 0; $SIG{ALRM} = sub { ++$n < 5 ? ualarm(20000) : 0 }; ualarm(20000); sleep 1 while $n < 5; print "$n\n"'
fi
if has_tool lua lua5.4; then
  cat >"$TMP/queens.lua" <<'END'
local N, solutions = 8, 0
local function ok(a, n, c)
  for i = 1, n - 1 do
    if a[i] == c or a[i] - i == c - n or a[i] + i == c + n then return false end
  end
  return true
end
local function add(a, n)
  if n > N then solutions = solutions + 1 return end
  for c = 1, N do if ok(a, n, c) then a[n] = c add(a, n + 1) end end
end
add({}, 1)
print(solutions)
local t = {}
for i = 1, 200000 do t[#t + 1] = string.format("%d:%x", i, i * i) end
print(#table.concat(t, ","), collectgarbage("count") > 0)
END
  same lua-queens lua5.4 "$TMP/queens.lua"
fi
same bash-sieve bash -c 'n=20000; for ((i = 2; i * i <= n; i++)); do
  ((c[i])) || for ((j = i * i; j <= n; j += i)); do c[j]=1; done; done
  k=0; for ((i = 2; i <= n; i++)); do ((c[i])) || ((++k)); done; echo $k'
INPUT="$ROOT/Makefile" same bash-words bash -c 'declare -A n
  while read -r -a line; do for w in "${line[@]}"; do w=x${w//[^a-zA-Z]/}; ((++n[$w])); done; done
  total=0; for w in "${!n[@]}"; do ((total += n[$w] * ${#w})); done; echo ${#n[@]} $total'
