# Each of busybox's applets: real work where it does that in one process and leaves the machine alone; the
# others (daemons, what starts programs, what changes disks, modules, networks) say how they are used.

busybox=$(command -v busybox)

# Applets that got work of their own.
declare -A has_work=()
work() {
  has_work[$1]=1
  busybox_count=$((busybox_count + 1))
  same "busybox-$1-$busybox_count" "$busybox" "$@"
}
# What it prints changes by itself: only its end is compared.
work_changing() {
  local native=0 status=0
  has_work[$1]=1
  (cd "$TMP" && limited "$busybox" "$@") >/dev/null 2>&1 </dev/null || native=$?
  (cd "$TMP" && limited "$KM" "$busybox" "$@") >"$TMP/.output" 2>&1 </dev/null || status=$?
  if [ $status = $native ]; then pass "busybox-$1-ends"
  else fail "busybox-$1-ends" "$(status_name $status), natively $(status_name $native)" "$TMP/.output"; fi
}

busybox_files() {
  local data=$TMP/bb
  mkdir -p "$data/tree/a/b" "$data/tree/c"
  awk 'BEGIN { for (i = 0; i < 3000; i++) printf "%d\tline %d  of a text\t%x\n", i * 7919 % 3001, i, i * i }' >"$data/text"
  head -n 100 "$data/text" >"$data/short"
  sed '10d;20s/line/LINE/' "$data/short" >"$data/changed"
  diff -u "$data/short" "$data/changed" >"$data/patch"
  printf 'one\r\ntwo\r\n' >"$data/dos"
  gzip -nk "$data/text"
  bzip2 -k "$data/text"
  xz -k "$data/text"
  lzma -k "$data/text" 2>/dev/null || "$busybox" lzma -c "$data/text" >"$data/text.lzma"
  cp "$data/short" "$data/tree/a/b/file"
  ln -sf a/b/file "$data/tree/link"
  tar -C "$data" --sort=name -cf "$data/tree.tar" tree
  (cd "$data" && find tree | sort | "$busybox" cpio -o -H newc) >"$data/tree.cpio" 2>/dev/null
  (cd "$data" && /usr/bin/python3 -m zipfile -c tree.zip tree)
  (cd "$data" && ar rcD archive.a short changed 2>/dev/null)
  "$busybox" uuencode name <"$data/short" >"$data/uu"
  (cd "$data" && sha256sum short >sums)
  echo "$data"
}

busybox_work() {
  local d
  d=$(busybox_files)
  work '[' 1 -lt 2 ']'; work '[[' abc '==' 'a*' ']]'; work test -f "$d/text"
  work ar -t "$d/archive.a"; work arch; work ascii; work base64 "$d/short"; work base64 -d "$d/text"
  work ash -c 'i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done; echo $i; cd /; pwd; read -r x <'"$d/text"'; echo "$x"; type cd'
  work sh -c 'set -- a b c; for x; do echo "${x}_${#}"; done; trap "echo bye" EXIT; case abc in a*) echo yes;; esac'
  work awk '{ n[$1 % 7] += $1 } END { for (k in n) print k, n[k] }' "$d/text"
  work basename /a/b.c .c; work bc -e '2 ^ 200 / 7' ; work cal 2 2024; work cat "$d/text" "$d/short"
  work bunzip2 -c "$d/text.bz2"; work bzcat "$d/text.bz2"; work bzip2 -c "$d/text"; work gunzip -c "$d/text.gz"
  work gzip -c "$d/short"; work unxz -c "$d/text.xz"; work xzcat "$d/text.xz"
  work xz -dc "$d/text.xz"; work unlzma -c "$d/text.lzma"; work lzcat "$d/text.lzma"; work lzma -dc "$d/text.lzma"
  work lzop -c "$d/text"; work tar -tvf "$d/tree.tar"; work tar -xf "$d/tree.tar"; work unzip -q "$d/tree.zip"
  work cksum "$d/text"; work crc32 "$d/text"; work md5sum "$d/text"; work sha1sum "$d/text"; work sha256sum "$d/text"
  work sha3sum "$d/text"; work sha512sum "$d/text"; work cmp "$d/short" "$d/changed"; work cp -r "$d/tree" copy
  INPUT=$d/tree.cpio work cpio -it; INPUT=$d/tree.cpio work cpio -id; work cut -f 2 "$d/text"
  work date -u -d @1700000000 '+%F %T %j'; work dc -e '2 300 ^ p'; work dd if="$d/text" of=out bs=1000 skip=3 count=9
  work diff -u "$d/short" "$d/changed"; work dirname /a/b/c; work dos2unix -n; INPUT=$d/dos work dos2unix
  INPUT=$d/short work unix2dos; work du -a "$d/tree"; work echo -e 'a\tb\n'; INPUT=$d/short work ed -s
  work egrep '7+ (of|xx)' "$d/text"; work fgrep 'line 77' "$d/text"; work grep -c 'line .*7$' "$d/text"
  work expand "$d/text"; work unexpand -a "$d/text"; work expr 6 '*' 7; work factor 123456789
  work fallocate -l 70000 new; work true; work false; work find "$d/tree" -name 'f*' -type f; work fold -w 20 "$d/short"
  work head -n 7 "$d/text"; work tail -n 7 "$d/text"; work tail -c +80000 "$d/text"; work hexdump -C "$d/short"
  work hd "$d/short"; work hostid; work hostname; work id; work groups; work whoami; work logname; work ipcalc -nb 10.1.2.3/20
  work link none linked; work ln -s target made; work ls -la "$d/tree"; work mkdir -p x/y/z
  work mkfifo fifo; work mkpasswd -m sha512 -S saltsalt word; work mktemp -u -p . abc; work mv -n "$d/none" there
  work nl "$d/short"; work nproc; work od -A x -t x1 "$d/short"; work paste -d, "$d/short" "$d/changed"
  work patch -o patched "$d/short" "$d/patch"; work printf '%05d|%s|%x\n' 42 text 255; work pwd
  work readlink "$d/tree/link"; work realpath "$d/tree/link"; work rev "$d/short"; work rm -f nothing; work rmdir none
  work sed -n '/77/{s/line/LINE/p}' "$d/text"; work seq 1 3 100; work shred -n 1 -z none; work sleep 0.05; work usleep 1000
  work sort -k2 -r "$d/text"; work stat -c '%s %F' "$d/text"; work strings -n 20 "$busybox"; work sum "$d/text"; work sync
  work tac "$d/short"; INPUT=$d/short work tee copy; work touch -d '2020-01-02 03:04:05' touched; INPUT=$d/short work tr a-z A-Z
  work truncate -s 12345 file; work tty; work uname -sm; work uniq -c "$d/short"; work unlink none; work uudecode -o - "$d/uu"
  INPUT=$d/short work uuencode -m name; work wc "$d/text"; work which sh; work xxd "$d/short"; work comm "$d/short" "$d/changed"
  work chmod 600 none; work chown 0 none; work chgrp 0 none; work sysctl -n kernel.ostype; work mknod pipe p
  work cat none; work run-parts --list "$d/tree"; work getopt -o ab: -l long -- -a -b x --long y; work shuf -i 5-5
  work i2cdetect -V; work fdisk -l none; work mke2fs -n none; work rpm2cpio none; work dpkg-deb -I none; work lsscsi
  work dumpleases -f none; work blockdev --getsz none; work bc -l none; work sha256sum -c "$d/sums"
  INPUT=$d/short work more; INPUT=$d/short work less; INPUT=$d/short work ts -i '' ; INPUT=$d/text work wc -l
  printf ':q!\n' >"$d/keys"; INPUT=$d/keys work vi "$d/short"
  for changing in 'df' 'free' 'ps' 'uptime' 'who' 'w' 'netstat -tln' 'ifconfig' 'last' 'lsmod' 'mount' \
    'pidof none' 'route -n' 'stty -a' 'arp' 'ip address' 'date' 'top -b -n 1' 'taskset -p 1' 'env' 'mktemp' 'shuf -i 1-9'; do
    # shellcheck disable=SC2086 # words
    work_changing $changing
  done
}

if has_tool busybox busybox; then
  busybox_count=0
  busybox_work
  for applet in $("$busybox" --list); do
    [ -n "${has_work[$applet]:-}" ] || same "busybox-$applet" "$busybox" "$applet" --help
  done
fi
