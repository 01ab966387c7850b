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

# ---- coreutils, findutils, gawk, sed, grep ----
cp -a "$ROOT/include" "$TMP/tree"
mkdir -p "$TMP/tree/empty"
ln -s km/layout.h "$TMP/tree/link"
head -n 2000 "$text" | sort >"$TMP/sorted"
tac "$TMP/sorted" | sed 3d >"$TMP/other"
sorted=$TMP/sorted other=$TMP/other tree=$TMP/tree
# One command a line, as a shell reads it. NAME by its program and line.
count=0
while read -r line; do
  count=$((count + 1))
  eval "words=($line)"
  run_tool "${words[0]}" "${words[0]}-$count" "${words[@]:1}"
done <<'END'
arch
base32 $other
base64 -w 40 $other
basename -s .c a/b.c
basenc --z85 -d $other
cat -A $other
chmod -v u+x none
chown -v 0 none
cksum $text
cksum -a sha3 $text
comm $sorted $sorted
cp -r --preserve=all $tree copy
cp --sparse=always --reflink=auto $text copied
csplit -s $other /word5/ '{2}'
date -d @86400 -u --rfc-3339=ns
dd if=$text of=blocks bs=7777 conv=sync,notrunc oflag=append status=none
df --output=target /proc
dir $tree
dircolors -b
dirname /a/b /c
du -ab --max-depth=1 $tree
echo -e 'a\tb'
expand $other
expr 6 '*' 7
expr abc : 'a\(.\)'
fmt -w 30 $other
fold -s -w 25 $other
groups
head -c -2000 $other
head -n 3 $other $sorted
hostid
id
install -D -m 640 $other x/y/z
join -j 2 $sorted $sorted
ln -s target made
logname
ls -1 --color=always -F $tree
ls -lR --time-style=+ $tree
md5sum $text
mkdir -p -m 750 a/b/c
mkfifo -m 600 pipe
mktemp -d -p /nowhere
mv -v none there
nl -ba $other
nproc --all
numfmt --from=si 12K 3M
od -c $other
paste -s -d, $other
paste $other $sorted
pathchk -p a/b
pr -3 -h title -D date $other
printenv HOME
printf '%08.3f|%q|%b\n' 3.14159 'a b' 'x\ty'
ptx $other
pwd -P
readlink -f $tree/link
realpath --relative-to=/usr $tree
rm -rf nothing
rmdir $tree/none
seq -w 1 0.5 20
sha1sum $text
sha384sum $text
sha512sum $text
shred -n 2 --random-source=$text missing
sleep 0.02
sort -R --random-source=$text $other
sort -h -k3 $other
sort -V $other
split -n l/5 -d $other p
split -b 33k $text q
stat -c %A:%s:%F:%N $tree/link $tree
stat -f -c %T:%S /proc
stdbuf --version
sum -s $text
sync $text
tac $other
tail -n 4 $text
tail -c 100 $text
tee a b
test -d $tree -a -r $text
touch -d 2001-02-03 stamped
truncate -s 1M hole
tsort $sorted
tty
uname -srm
unexpand -a $other
uniq -c -w 3 $sorted
unlink none
vdir -G --time-style=+ $tree
wc -lwcL $text
who -r
whoami
yes --version
find $tree -type l -o -name '*.h' -newer /etc/passwd -printf '%p:%s:%y\n'
find $tree -depth -empty -print0
find $tree -samefile $tree/link -ls
find $tree -regex '.*/l.*h' -size -100k -perm /444 -print -prune
xargs --version
gawk '{n[length($2)] += $1} END {PROCINFO["sorted_in"] = "@ind_num_asc"; for (k in n) print k, n[k]}' $text
gawk 'BEGIN {print strftime("%F", 0, 1), systime() > 0, gensub(/(b)(c)/, "\\2\\1", "g", "abcbc"), asort(ENVIRON) > 0}'
gawk -M 'BEGIN {print 2 ^ 500 % 1000007}'
sed -E -n 's/^([0-9]+) (word)/\2=\1/p' $other
sed -s -n '$=' $other $sorted
sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta' $other
grep -P -o '(?<=word)\d{3}(?= the)' $text
grep -P -c '^(?=.*7)(?!.*8).*(\d)\1$' $text
grep -rlZ KM_ $tree
grep -f $sorted -c $other
grep -iw --color=always FOX $other
END

# ---- archives and compression ----
tar -C "$ROOT" -cf "$TMP/some.tar" km docs
run_tool tar tar-list -tvf "$TMP/some.tar"
run_tool tar tar-extract --no-same-owner -xf "$TMP/some.tar"
for level in 1 9; do
  run_tool gzip "gzip-$level" -"$level" -n -c "$TMP/some.tar"
  run_tool xz "xz-$level" -"$level" -c "$TMP/some.tar"
  run_tool zstd "zstd-$level" -"$level" -q -c "$TMP/some.tar"
done
for program in gzip bzip2 xz zstd; do
  has_tool "$program" "$program" || continue
  "$program" -c "$TMP/some.tar" >"$TMP/packed.$program" 2>/dev/null
  INPUT=$TMP/packed.$program run_tool "$program" "$program-unpacked" -dc
  INPUT=$TMP/packed.$program run_tool "$program" "$program-tested" -t
done
head -c 20000 "$TMP/packed.xz" >"$TMP/cut.xz"
run_tool xz xz-damaged -dc "$TMP/cut.xz"

# ---- openssl ----
# Speeds, and processor features that KVM knows nothing of, differ.
run_tool_figures() { NORMALIZE='/^CPUINFO/d; s/[0-9.]\+[ks]*/N/g; s/ \+/ /g' run_tool "$@"; }
run_tool_figures openssl openssl-speed speed -seconds 1 -bytes 1024 sha256
run_tool_figures openssl openssl-speed-cipher speed -seconds 1 -bytes 8192 -evp aes-128-gcm
run_tool_figures openssl openssl-speed-sign speed -seconds 1 ecdsap256
run_tool openssl openssl-encrypt enc -aes-256-cbc -pbkdf2 -S 0102030405060708 -pass pass:word -in "$text"
run_tool openssl openssl-list list -digest-algorithms

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
