# Files, standard streams and clocks of a resumed process.

data=$TMP/data
files_output='offsets 4 4 7
size 10
read '\''45'\'', then at 6
append 1, access 0 2, close-on-exec 1 0'
if takes files "$TMP/files.kmsnap" "$probe" files "$data"; then
  prints files-before 0123456789 cat "$data"
  prints files-resumed "$files_output" limited "$KM" "$TMP/files.kmsnap"
  prints files-after 0123456789ABC cat "$data"
  # Neither O_TRUNC nor O_CREAT again: it has grown, the other's bytes stay; it is gone, it stays so.
  echo -n 0123456789abcdef >"$data"
  # That it is not what it was is said, a failure or nothing at all, as asked for.
  refused files-strict "$TMP/files.kmsnap" 'had 10 bytes and has 16' --files=strict && pass files-strict
  prints files-grown "${files_output/size 10/size 16}" limited "$KM" --files=ignore "$TMP/files.kmsnap"
  prints files-grown-after 0123456789abcdefABC cat "$data"
  rm "$data"
  refused files-gone "$TMP/files.kmsnap" "$data" && pass files-gone
  [ -e "$data" ] && fail files-not-created "$data is there again"
  mkfifo "$data"
  refused files-fifo "$TMP/files.kmsnap" 'of another kind' && pass files-fifo
  rm "$data"
  mkdir "$data"
  refused files-directory "$TMP/files.kmsnap" "$data" && pass files-directory
fi

# A file is warned of once, however often it is open.
cat >"$TMP/often.pl" <<'END'
open($file{$_}, "<", $ARGV[0]) or die for 1 .. 5;
syscall(0x4b4d00, my $label = "often", my $description = "", 0) >= 0 or die "no snapshot: $!";
END
echo one >"$TMP/changing"
if has_tool warned-once perl && takes warned-once "$TMP/often" perl "$TMP/often.pl" "$TMP/changing"; then
  echo more >>"$TMP/changing"
  limited "$KM" "$TMP/often" >"$TMP/out" 2>"$TMP/err"
  prints warned-once 1 grep -c 'is not what it was' "$TMP/err"
fi

# says NAME LINES TEXT FILE [OPTIONS]: what km FILE says of files that are not what they were is so many
# lines, each with TEXT.
says() {
  local name=$1 lines=$2 text=$3 file=$4 status=0
  shift 4
  limited "$KM" "$@" "$file" >"$TMP/out" 2>"$TMP/err" || status=$?
  if [ $status != 0 ]; then fail "$name" "$(status_name $status)" "$TMP/err"
  elif [ "$(wc -l <"$TMP/err") $(grep -c "is not what it was: .*$text" "$TMP/err")" != "$lines $lines" ]; then
    fail "$name" "not $lines lines that say '$text'" "$TMP/err"
  else pass "$name"; fi
}
# A file that was open for writing, and one that is shared as memory and not open, are looked at as well.
file_as() {  # NAME MODE: the snapshot of a program that has the file open so
  head -c 8192 /dev/zero | tr '\0' x >"$TMP/judged"
  if [ "$2" = mapped ]; then takes "$1" "$TMP/$1" "$probe" mapped "$TMP/judged"
  else takes "$1" "$TMP/$1" perl -e 'open($file, $ARGV[0], $ARGV[1]) or die;
    syscall(0x4b4d00, my $label = "judged", my $description = "", 0) >= 0 or die' "$2" "$TMP/judged"; fi
}
for way in '+<' '>>' mapped; do
  name=judged-${way//[+<>]/open}
  [ "$way" = '>>' ] && name=judged-append
  if { [ "$way" = mapped ] || has_tool "$name" perl; } && file_as "$name" "$way"; then
    file=$TMP/$name
    says "$name-same" 0 '' "$file" --files=strict
    file_as "$name" "$way"
    touch "$TMP/judged"
    refused "$name-touched-strict" "$file" 'was changed since' --files=strict && pass "$name-touched-strict"
    says "$name-touched" 1 'was changed since' "$file"
    says "$name-touched-ignore" 0 '' "$file" --files=ignore
    file_as "$name" "$way"
    echo more >>"$TMP/judged"
    refused "$name-grown-strict" "$file" 'had 8192 bytes and has 8197' --files=strict && pass "$name-grown-strict"
    says "$name-grown" $([ "$way" = '>>' ]; echo $?) 'had 8192 bytes and has 8197' "$file"
    truncate -s 4096 "$TMP/judged"
    refused "$name-shrunk-strict" "$file" 'had 8192 bytes and has 4096' --files=strict && pass "$name-shrunk-strict"
    says "$name-shrunk" 1 'had 8192 bytes and has 4096' "$file"
    file_as "$name" "$way"
    cp -p "$TMP/judged" "$TMP/replacement" && mv "$TMP/replacement" "$TMP/judged"
    refused "$name-replaced-strict" "$file" 'another file' --files=strict && pass "$name-replaced-strict"
    says "$name-replaced" 1 'another file' "$file"
    mv "$TMP/judged" "$TMP/elsewhere"
    refused "$name-gone" "$file" "cannot open '$TMP/judged'" && pass "$name-gone"
    ln -s /proc/self/fd/0 "$TMP/judged"
    refused "$name-magic" "$file" "cannot open '$TMP/judged'" && pass "$name-magic"
    rm "$TMP/judged"
  fi
done

# Descriptors 0, 1 and 2 are the resuming shell's.
cat >"$TMP/streams.pl" <<'END'
$| = 1;
syscall(0x4b4d00, my $label = "streams", my $description = "", 0) >= 0 or die "no snapshot: $!";
print STDOUT "out ", scalar <STDIN>;
print STDERR "err\n";
END
if has_tool streams perl && takes streams "$TMP/streams" perl "$TMP/streams.pl"; then
  echo line | limited "$KM" "$TMP/streams" >"$TMP/out" 2>"$TMP/err"
  prints streams-out 'out line' cat "$TMP/out"
  prints streams-err err cat "$TMP/err"
  echo other >"$TMP/in"
  limited "$KM" "$TMP/streams" <"$TMP/in" >"$TMP/both" 2>&1
  prints streams-files 'out other
err' cat "$TMP/both"
  limited "$KM" "$TMP/streams" <&- >"$TMP/out" 2>"$TMP/err"
  prints streams-closed-in 'out ' cat "$TMP/out"
fi

if takes clock "$TMP/clock" "$probe" clock; then
  sleep 1.5
  prints clock "monotonic went on
realtime is the host's" limited "$KM" "$TMP/clock"
fi

# What a resume needs and does not find is named.
mkdir "$TMP/here"
in_here() { (cd "$TMP/here" && takes directory "$TMP/directory" "$probe" try); }
if in_here; then
  rmdir "$TMP/here"
  refused directory-gone "$TMP/directory" "$TMP/here" && pass directory-gone
fi

# Who waits to be accepted at a UNIX listener is reset, as over TCP; the program finds the
# connection, and its end. Its own it would lose: that is refused.
cat >"$TMP/waiting.pl" <<'END'
use Socket;
$| = 1;
socket($listener, AF_UNIX, SOCK_STREAM, 0) or die;
bind($listener, pack_sockaddr_un($ARGV[0])) && chmod(0700, $ARGV[0]) && listen($listener, 5) or die;
if ($ARGV[1] eq "own") {
  socket($client, AF_UNIX, SOCK_STREAM, 0) && connect($client, pack_sockaddr_un($ARGV[0])) or die;
} else {
  select(undef, undef, undef, 0.02) until -e $ARGV[1];
}
syscall(0x4b4d00, my $label = "waiting", my $description = "", 0) >= 0 or die "no snapshot: $!";
for (1 .. 2) {
  accept($connection, $listener) or die "accept: $!";
  print "accepted, read ", sysread($connection, my $text, 10), "\n";
}
accept($connection, $listener) or die "accept: $!";
print "a new one: ", scalar <$connection>;
END
cat >"$TMP/waits.pl" <<'END'
use Socket;
for (@ARGV[1 .. $#ARGV]) {
  socket($client{$_}, AF_UNIX, SOCK_STREAM, 0) or die;
  select(undef, undef, undef, 0.02) until connect($client{$_}, pack_sockaddr_un($ARGV[0]));
  syswrite($client{$_}, "$_\n");
}
open($go, ">", "$ARGV[0].go");
sleep(60);
END
if has_tool waiting-unix perl; then
  socket=$TMP/waiting.sock
  perl "$TMP/waits.pl" "$socket" one two &
  waits=$!
  if takes waiting-unix "$TMP/waiting" perl "$TMP/waiting.pl" "$socket" "$socket.go"; then
    kill $waits
    # The clients of then are gone; one that comes now is behind what they left.
    (until [ "$(grep -c accepted "$TMP/.output")" = 2 ]; do sleep 0.1; done
      exec perl "$TMP/waits.pl" "$socket" three) &
    waits=$!
    prints waiting-unix-resumed $'accepted, read 0\naccepted, read 0\na new one: three' \
      limited "$KM" "$TMP/waiting"
  fi
  kill $waits
  rm -f "$socket"
  limited "$KM" --snapshot="$TMP/refused" perl "$TMP/waiting.pl" "$socket" own >"$TMP/out" 2>"$TMP/err"
  prints waiting-unix-own 1 grep -c "has a connection of the process's own that was not accepted" "$TMP/err"
fi
