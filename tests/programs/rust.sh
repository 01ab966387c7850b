# A Rust program with threads, channels, locks and sockets of its standard library.

rustc=/usr/bin/rustc
if has_tool rustc "$rustc"; then
  program=$OUT/rust_work
  if ! [ "$program" -nt "$here/rust_work.rs" ]; then
    "$rustc" --edition 2021 -O -o "$program" "$here/rust_work.rs" || fail rustc 'rust_work.rs does not compile'
  fi
  same rust "$program"
fi
