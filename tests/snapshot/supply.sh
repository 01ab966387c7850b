# What whoever resumes supplies instead: --fd and --listen. Whether files were changed since is not
# the matter here: each resume writes to one.

place=$TMP/supply
file=$TMP/supply.kmsnap
with=$TMP/supply.with # what is offered
mkdir "$place" "$with"
echo 0123456789 >"$place/data"
echo -n ABCDEFGHIJ >"$with/data"
p1=$(/usr/bin/python3 tests/programs/free_port.py)
p2=$(/usr/bin/python3 tests/programs/free_port.py)
reset_out() { echo ......... >"$place/out"; rm -f "$place/sock"; echo ......... >"$with/out"; }
# What the program prints, as far as NAME=TEXT say nothing else of a line.
wanted() {
  declare -A line=([read]='456 789' [out]='6 blocking False' [pipe]='queued blocking False' [16]="127.0.0.1 $p1"
    [17]=sock [18]="127.0.0.1 $p1" [19]="::1 $p1" [end]='
end')
  local part
  for part; do line[${part%%=*}]=${part#*=}; done
  for part in read out pipe 16 17 18 19; do echo "$part ${line[$part]}"; done
  echo "served${line[end]}"
}
# supplied NAME CHANGES... -- OPTIONS...
supplied() {
  local name=$1 changes=()
  shift
  reset_out
  while [ "$1" != -- ]; do changes+=("$1"); shift; done
  shift
  prints "$name" "$(wanted ${changes[@]+"${changes[@]}"})" limited "$KM" --files=ignore "$@" "$file"
}
# misfit NAME TEXT OPTIONS...: refused, with one line, and nothing has happened.
misfit() {
  local name=$1 text=$2
  shift 2
  reset_out
  refused "$name" "$file" "$text" "$@" || return
  if [ -e "$place/sock" ]; then fail "$name" 'a socket was bound'; else pass "$name"; fi
}
# km with a socket as descriptor 7; the words say which.
with_socket() {
  local code=$1
  shift
  limited /usr/bin/python3 -c "import os, socket, sys
$code
os.dup2(s.fileno(), 7, inheritable=True)
os.execv(sys.argv[1], sys.argv[1:])" "$KM" "$@"
}
served() { # NAME PORT CODE
  reset_out
  prints "$1" "$(wanted "16=127.0.0.1 $2")" with_socket "$3" --files=ignore --fd 16=fd:7 "$file"
}
misfit_socket() { # NAME TEXT CODE OPTIONS...
  local name=$1 text=$2 status=0
  with_socket "${@:3}" "$file" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  if [ $status = 126 ] && [ ! -s "$TMP/.output" ] && grep -qF -- "$text" "$TMP/.errors"; then pass "$name"
  else fail "$name" "$(status_name $status), or another message than '$text'" "$TMP/.errors"; fi
}

reset_out
if takes supply "$file" /usr/bin/python3 tests/snapshot/supply.py "$place" "$p1"; then
  supplied supply-nothing --
  supplied supply-path read='EFG HIJ' -- --fd "10=$with/data"
  supplied supply-path-for-a-duplicate read='EFG HIJ' -- "--fd=11=$with/data"
  # What was inherited keeps its place and gets the flags.
  supplied supply-descriptor read='ABC DEF' -- --fd 10=fd:7 7<"$with/data"
  supplied supply-to-write -- --fd "12=$with/out"
  expect_output supply-written '...new...' cat "$with/out"
  expect_output supply-left-alone '.........' cat "$place/out"
  supplied supply-read-write out='3 blocking False' -- --fd 12=fd:9 9<>"$with/out"
  supplied supply-pipe pipe='fed blocking False
nobody reads' -- --fd 14=fd:7 7< <(echo fed; sleep 1)
  mkfifo "$with/fifo"
  # Nobody reads it in the end: what was queued in the pipe is still there.
  supplied supply-fifo -- --fd 15=fd:8 8<>"$with/fifo"
  supplied supply-fifo-path -- --fd "15=$with/fifo" 8<>"$with/fifo"
  supplied supply-directory -- --fd "13=$with"
  supplied supply-fifo-read pipe=' blocking False
nobody reads' -- --fd "14=$with/fifo"
  # 21 is a duplicate of 1: both go there.
  reset_out
  : >"$TMP/supply.log"
  expect_output supply-standard '' "$KM" --fd "21=$TMP/supply.log" "$file"
  prints supply-standard-follows "$(wanted)" cat "$TMP/supply.log"
  : >"$TMP/supply.log"
  reset_out
  expect_output supply-standard-number '' "$KM" --fd "1=$TMP/supply.log" "$file"
  prints supply-standard-number-follows "$(wanted)" cat "$TMP/supply.log"

  listener="s = socket.socket(); s.bind(('127.0.0.1', $p2)); s.listen()"
  served supply-listener "$p2" "$listener"
  supplied listen-port 16="127.0.0.1 $p2" 18="127.0.0.1 $p2" 19="::1 $p2" -- --listen ":$p1=:$p2"
  supplied listen-host 16="127.0.0.2 $p2" 18="127.0.0.2 $p2" -- --listen "127.0.0.1:$p1=127.0.0.2:$p2"
  supplied listen-ipv6 19="::1 $p2" -- --listen "[::1]:$p1=[::1]:$p2"
  supplied listen-path 17="$with/moved" 19="::1 $p2" -- --listen "sock=$with/moved" --listen "[::1]:$p1=:$p2"
  supplied listen-no-file 17=@km-moved-$$ -- --listen sock=@km-moved-$$
  # What was offered is looked at before anything happens.
  misfit supply-unknown 'no such descriptor' --fd "99=$with/data"
  misfit supply-missing "$with/none" --fd "10=$with/none"
  [ -e "$with/none" ] && fail supply-not-created "$with/none is there"
  misfit supply-not-inherited 'inherited no descriptor 77' --fd 10=fd:77
  # Of the monitor's own, none is to be had.
  for number in 3 4 5 6; do misfit "supply-own-$number" "inherited no descriptor $number" --fd "10=fd:$number"; done
  misfit supply-directory-for-a-file 'it is a directory; the snapshot'\''s descriptor is a regular file' --fd "10=$with"
  misfit supply-directory-for-a-pipe 'it is a directory; the snapshot'\''s descriptor is a pipe' --fd "15=$with"
  misfit supply-file-for-a-directory 'it is a regular file' --fd "13=$with/data"
  misfit supply-file-for-a-socket 'it is a regular file; the snapshot'\''s descriptor is a socket' --fd "16=$with/data"
  misfit supply-epoll 'which only km can make' --fd "20=$with/data"
  misfit supply-access 'open for reading; the snapshot'\''s descriptor is open for writing' --fd 12=fd:7 7<"$with/data"
  misfit supply-twice 'that open file is supplied already' --fd "10=$with/data" --fd "11=$with/data"
  misfit supply-of-proc 'files of /proc cannot be supplied' --fd 10=/proc/self/mem
  misfit_socket supply-listener-for-a-file 'it is a socket; the' "$listener" --fd 10=fd:7
  misfit_socket supply-unlistening 'an unconnected IPv4 stream socket; the snapshot'\''s descriptor is a listening' \
    "s = socket.socket()" --fd 16=fd:7
  misfit_socket supply-udp 'IPv4 datagram socket' "s = socket.socket(type=socket.SOCK_DGRAM)" --fd 16=fd:7
  misfit_socket supply-unix 'a listening UNIX stream socket' \
    "s = socket.socket(socket.AF_UNIX); s.bind('\\0km-$$'); s.listen()" --fd 16=fd:7
  misfit listen-unknown "127.0.0.1:$p1, sock, 127.0.0.1:$p1, [::1]:$p1" --listen ":1=:$p2"
  misfit listen-other-host 'no listener there' --listen "127.0.0.3:$p1=:$p2"
  misfit listen-path-for-a-port 'family UNIX cannot be bound there' --listen "sock=:$p2"
  misfit listen-port-for-a-path 'family IPv4 cannot be bound there' --listen "127.0.0.1:$p1=$with/moved"
  misfit listen-ipv6-for-ipv4 'family IPv4 cannot be bound there' --listen "127.0.0.1:$p1=[::1]:$p2"
  misfit listen-twice 'another --listen moves' --listen ":$p1=:$p2" --listen "[::1]:$p1=:$p2"
  for option in --fd=3 --fd=x=y --fd=3= --fd=3=fd: --listen=:80 --listen=:80= --listen=:0=:80 --listen=localhost:80=:81; do
    check_status 125 "supply-malformed$option" "$KM" "$option" "$file"
  done
  check_status 125 supply-no-snapshot "$KM" --fd "10=$with/data" /bin/true
  check_status 125 listen-no-snapshot "$KM" --listen :80=:81 /bin/true
fi
