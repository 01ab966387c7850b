# Real, unmodified programs: natively and under km the same output, errors, files and exit status.

data=$OUT/words
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "line %d value %d word%d\n", i, i * 7919 % 10007, i % 37 }' \
  >"$data"

# --- busybox: one static program, many applets ---
busybox=$(command -v busybox)
if has_tool busybox busybox; then
  applet() {
    local name=$1
    shift
    same "busybox-$name" "$busybox" "$@"
  }
  applet echo echo -e 'a\tb' c
  INPUT=$data applet cat cat
  applet cat-file cat "$data" /dev/null
  applet cat-missing cat /no/such/file
  applet ls ls -la "$ROOT/km/loader"
  applet ls-recursive ls -R "$ROOT/include"
  applet sha256sum sha256sum "$data"
  applet md5sum md5sum "$data"
  applet sort sort -k4 -n "$data"
  applet sort-unique sort -u -r "$data"
  INPUT=$data applet wc wc
  applet expr expr 6 '*' 7
  applet expr-fails expr 1 = 2
  applet seq seq 1 3 20
  applet head head -n 3 "$data"
  applet tail tail -n 3 "$data"
  INPUT=$data applet tail-pipe tail -c 100
  INPUT=$data applet cut cut -d' ' -f2,4
  INPUT=$data applet tr tr a-z A-Z
  INPUT=$data applet uniq uniq -c
  INPUT=$data applet grep grep -c 'word3[0-5]$'
  INPUT=$data applet grep-none grep nothing-like-this
  INPUT=$data applet sed sed -n 's/line \(.*5\) value/<\1>/p'
  INPUT=$data applet awk awk '{ s[$5] += $4 } END { for (k in s) n++; print n, s["word7"] }'
  applet date date -u -d @86400
  applet printf printf '%05d %s\n' 42 x
  applet test test -d "$ROOT"
  applet test-fails test -f "$ROOT"
  applet dd dd if="$data" of=copy bs=1000 count=20 skip=3
  applet cp cp "$data" copy
  applet mkdir mkdir -p a/b/c
  applet touch touch -d @1000000000 file
  applet stat stat -c '%s %a %F %h' "$data"
  applet find find "$ROOT/include" -name '*.h'
  applet diff diff "$data" "$ROOT/Makefile"
  applet base64 base64 "$data"
  applet od od -An -tx1 -N64 "$data"
  applet hexdump hexdump -C -n 100 "$data"
  INPUT=$data applet gzip gzip -c
  applet tar tar -c -f archive.tar -C "$ROOT" include
  applet cksum cksum "$data"
  applet readlink readlink -f /bin
  applet basename basename /a/b.c .c
  applet uname uname -srm
  applet id id
  applet true true
  applet false false
  applet sleep sleep 0.05
  applet pwd pwd
  applet factor factor 1234567890
  applet sh sh -c 'i=0; while [ $i -lt 100 ]; do i=$((i+1)); done; echo $i; cd /; pwd; exit 4'
  applet ln ln -s "$data" link
fi

# --- bash and its builtins: nothing here needs another process ---
builtins() { same "bash-$1" bash -c "$2" name one two; }
builtins echo 'echo "$0" "$@"; echo -e "\x41\u00e9"'
builtins arithmetic 'for ((i = 0, s = 0; i < 1000; i++)); do ((s += i * i)); done; echo $s $((s % 97))'
builtins arrays 'a=(x y z); a+=(w); echo "${a[@]:1:2}" ${#a[@]}; declare -A m=([k]=v); echo ${m[k]}'
builtins strings 's=hello.tar.gz; echo ${s%%.*} ${s#*.} ${s/l/L} ${s^^} ${#s} ${s:2:3}'
builtins regex '[[ 2024-05-06 =~ ^([0-9]+)-([0-9]+) ]] && echo ${BASH_REMATCH[2]}'
builtins files 'echo one >f; echo two >>f; exec 3<f; read -u 3 x; read -u 3 y; echo $y $x; exec 3<&-'
builtins here-document 'while read -r a b; do echo "$b-$a"; done <<<"1 2"; cat_() { read -r l; echo $l; }
  cat_ <<END
text
END'
builtins mapfile "mapfile -t l <'$data'; echo \${#l[@]} \"\${l[4711]}\""
builtins printf 'printf -v x "%05.2f|%x|%q" 3.14159 255 "a b"; echo "$x"'
builtins getopts 'set -- -a -b v; while getopts ab: o; do echo $o $OPTARG; done'
builtins trap-exit 'trap "echo bye" EXIT; exit 3'
builtins trap-signal 'trap "echo caught" USR1; kill -USR1 $$; echo after'
builtins kill-self 'kill -TERM $$; echo never'
builtins cd 'cd /usr/../tmp/; pwd; cd /nowhere; echo $?'
builtins limits 'umask 027; umask; ulimit -n; ulimit -s'
builtins glob "cd '$ROOT/include'; echo */*.h; shopt -s globstar; echo **/*.h"
builtins syntax 'if then'
builtins closed 'echo x >&9'
builtins variables 'export A=1; unset PATH; echo ${A} ${PATH-unset} $PPID_NOT'

# --- perl ---
if has_tool perl perl; then
  same perl-hash perl -e 'my %h; $h{$_ % 17} += $_ for 1 .. 50000; print "$_ $h{$_}\n" for sort { $a <=> $b } keys %h'
  same perl-lines perl -ne '$n{$1}++ if /word(\d+)/; END { print join(" ", map { "$_:$n{$_}" } sort keys %n), "\n" }' "$data"
  same perl-modules perl -MList::Util=sum -MDigest::SHA=sha256_hex -MPOSIX=floor \
    -e 'print sum(1 .. 100), " ", sha256_hex("km"), " ", floor(3.7), "\n"'
  same perl-files perl -e 'open my $f, ">", "out" or die; print $f $_ x 3, "\n" for 1 .. 9; close $f; print -s "out", "\n"'
  same perl-sort perl -e 'srand 1; my @a = map { ($_ * 7919) % 100003 } 1 .. 30000; print join(",", (sort { $a <=> $b } @a)[0 .. 9]), "\n"'
  same perl-die perl -e 'die "enough\n"'
  same perl-signal perl -e '$SIG{ALRM} = sub { print "alarm\n"; exit 9 }; alarm 1; sleep 10; print "never\n"'
fi

# --- lua ---
if has_tool lua lua5.4; then
  same lua-tables lua5.4 -e 'local t = {} for i = 1, 20000 do t[i] = (i * 7919) % 10007 end table.sort(t) print(t[1], t[10000], #t)'
  same lua-strings lua5.4 -e 'print((("hello world"):gsub("o", "0")), string.format("%5.2f %q", math.pi, "x"))'
  same lua-files lua5.4 -e "local n = 0 for l in io.lines('$data') do n = n + #l end print(n) local f = io.open('out', 'w') f:write(n) f:close()"
  same lua-coroutines lua5.4 -e 'local c = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) print(c(), c(), c())'
  same lua-error lua5.4 -e 'error("no")'
fi

# --- sqlite3 on a file ---
if has_tool sqlite3 sqlite3; then
  cat >"$TMP/make.sql" <<'END'
create table t(id integer primary key, name text, value real);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
  insert into t select i, 'name' || i, i * 1.5 from n;
commit;
create index by_name on t(name);
update t set value = value * 2 where id % 3 = 0;
delete from t where id % 7 = 0;
select count(*), sum(value), max(name) from t;
pragma integrity_check;
vacuum;
END
  same sqlite3-file sqlite3 base.db ".read $TMP/make.sql"
  cat >"$TMP/wal.sql" <<'END'
pragma journal_mode = wal;
create table t(a); insert into t values (1), (2), (3);
select group_concat(a) from t;
END
  same sqlite3-wal sqlite3 base.db ".read $TMP/wal.sql"
  INPUT="$TMP/make.sql" same sqlite3-memory sqlite3
  same sqlite3-error sqlite3 base.db 'select nothing from nowhere'
  # What km wrote, the native sqlite3 reads.
  rm -f "$TMP/k.db"
  limited "$KM" "$(command -v sqlite3)" "$TMP/k.db" ".read $TMP/make.sql" >/dev/null
  expect_output sqlite3-read-back '4286|ok' sqlite3 "$TMP/k.db" \
    'select (select count(*) from t) || "|" || (select * from pragma_integrity_check)'
fi

# --- python3 ---
python=/usr/bin/python3
if has_tool python "$python"; then
  same python-hello "$python" -c 'print("hello", 6 * 7)'
  same python-script "$python" "$ROOT/$here/work.py" "$data"
  same python-modules "$python" -c 'import argparse, array, base64, collections, csv, datetime, decimal, hashlib, itertools, json, random, re, sqlite3, struct, tempfile, threading, unittest, xml.etree.ElementTree, zlib
print(zlib.crc32(b"km"), decimal.Decimal(1) / 7, datetime.date(2024, 1, 1).isoformat())'
  same python-threads "$python" -c 'import threading
lock, total = threading.Lock(), [0]
def work(n):
    for i in range(2000):
        with lock: total[0] += n
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(total[0])'
  same python-exception "$python" -c 'import os; os.stat("/nowhere")'
  same python-exit "$python" -c 'import sys; sys.exit(77)'
  same python-signal "$python" -c 'import os, signal
signal.signal(signal.SIGUSR1, lambda n, f: print("got", n))
os.kill(os.getpid(), signal.SIGUSR1)
print("after")'
  same python-killed "$python" -c 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'
  same python-fork-free-pool "$python" -c 'from concurrent.futures import ThreadPoolExecutor as P
import hashlib
with P(4) as p: print(list(p.map(lambda n: hashlib.sha256(bytes([n]) * 100000).hexdigest()[:8], range(16))))'
fi
