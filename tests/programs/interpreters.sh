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
if has_tool python3 "$python" && has_tool openssl openssl; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout "$TMP/key.pem" -out "$TMP/certificate.pem" 2>/dev/null
  same python3-network "$python" "$ROOT/$here/python_network.py" "$TMP/certificate.pem" "$TMP/key.pem"
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
if has_tool ruby ruby; then
  cat >"$TMP/work.rb" <<'END'
require 'digest'
require 'json'
require 'set'
require 'socket'
require 'stringio'
require 'tempfile'
require 'timeout'
require 'zlib'
puts (1..5000).inject(:*).to_s.length
words = 50000.times.map { |i| "w#{i * 7919 % 1009}" }
puts words.tally.sort_by { |w, n| [-n, w] }.first(5).inspect
puts Digest::SHA256.hexdigest(JSON.generate(words.each_slice(3).to_a))
puts Zlib::Inflate.inflate(Zlib::Deflate.deflate(words.join)).length
queue, results = Queue.new, Queue.new
threads = 8.times.map { Thread.new { while (n = queue.pop) != :end do results << n * n end } }
1000.times { |i| queue << i }
8.times { queue << :end }
threads.each(&:join)
puts results.size, 1000.times.sum { results.pop }
server = TCPServer.new('127.0.0.1', 0)
answering = Thread.new { 20.times { client = server.accept; client.puts client.gets.upcase; client.close } }
puts 20.times.sum { |i| s = TCPSocket.new('127.0.0.1', server.addr[1]); s.puts "hello #{i}"; n = s.read.length; s.close; n }
answering.join
reader, writer = IO.pipe
writer.write 'x' * 1000
writer.close
puts reader.read.length, IO.select([reader], nil, nil, 0.1).inspect.length > 0
begin
  Timeout.timeout(0.05) { sleep 10 }
rescue Timeout::Error => e
  puts e.class
end
fiber = Fiber.new { 3.times { |i| Fiber.yield i }; :done }
puts 4.times.map { fiber.resume }.inspect
trap('USR1') { puts 'USR1' }
Process.kill 'USR1', Process.pid
sleep 0.05
def deep(n) = deep(n + 1)
begin deep(0) rescue SystemStackError then puts 'too deep' end
puts ObjectSpace.garbage_collect.inspect, Dir.children('.').size
END
  same ruby-work ruby "$TMP/work.rb"
  same ruby-error ruby -e 'raise ArgumentError, "on purpose"'
fi
if has_tool php php; then
  cat >"$TMP/work.php" <<'END'
<?php
$primes = [];
for ($i = 2; count($primes) < 3000; $i++) {
  foreach ($primes as $p) { if ($p * $p > $i) break; if ($i % $p == 0) continue 2; }
  $primes[] = $i;
}
echo end($primes), "\n", md5(serialize($primes)), "\n", strlen(json_encode($primes)), "\n";
echo preg_replace_callback('/(\d)(\d)/', fn($m) => $m[2] . $m[1], implode(' ', array_slice($primes, 0, 30))), "\n";
function numbers() { for ($i = 0; $i < 100000; $i++) yield $i; }
$sum = 0; foreach (numbers() as $n) $sum += $n;
echo $sum, "\n";
file_put_contents('data', str_repeat("line\n", 10000));
echo filesize('data'), ' ', count(file('data')), ' ', hash_file('sha256', 'data'), "\n";
$server = stream_socket_server('tcp://127.0.0.1:0'); $name = stream_socket_get_name($server, false);
$client = stream_socket_client("tcp://$name"); $peer = stream_socket_accept($server, 5);
fwrite($client, "hello\n"); echo fgets($peer);
$read = [$client]; $write = $except = null; echo stream_select($read, $write, $except, 0, 20000), "\n";
$big = []; for ($i = 0; $i < 200000; $i++) $big["k$i"] = $i;
echo count($big), ' ', memory_get_usage() > 1000000, "\n"; unset($big); gc_collect_cycles();
usleep(2000); echo date('Y-m-d', 86400), "\n";
try { intdiv(1, 0); } catch (DivisionByZeroError $e) { echo $e->getMessage(), "\n"; }
exit(3);
END
  same php-work php "$TMP/work.php"
  same php-jit php -d opcache.enable_cli=1 -d opcache.jit_buffer_size=16M -d opcache.jit=1255 "$TMP/work.php"
fi
