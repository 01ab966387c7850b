# How guest programs are built; for tests/guest/run and tests/inject/run. Needs tests/lib.sh.

directive() { sed -n "1,8s,^// $2: *,,p" "$1"; }

# build SOURCE VARIANT PROGRAM
build() {
  local flags=() more
  case $2 in
    static) flags=(-static) ;;
    static-pie) flags=(-static-pie -fPIE) ;;
    nopie) flags=(-no-pie -fno-pie) ;;
    dynamic) flags=(-pie -fPIE) ;;
    musl) flags=(-static) ;;
    musl-dynamic) ;;
    *) echo "unknown variant $2" >&2; return 1 ;;
  esac
  read -ra more <<<"$(directive "$1" build)"
  [[ $2 = musl* ]] && local CC=musl-gcc
  compile "$3" "$1" -std=gnu11 -D_GNU_SOURCE -O1 -I. -Wextra -Wshadow -Werror -pthread \
    "${flags[@]}" "${more[@]}"
}
