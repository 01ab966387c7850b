# A host without KVM, or without the right to use it. The program must not have run at all.

if [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null; then
  skip no-dev-kvm 'only root can hide /dev/kvm'
else
  hidden=(unshare -m bash -c 'mount -t tmpfs none /dev && exec "$@"' -)
  refused no-dev-kvm 125 '/dev/kvm' "${hidden[@]}" "$KM" "$hello"
  fake=(unshare -m bash -c 'mount --bind /dev/null /dev/kvm && exec "$@"' -)
  refused dev-kvm-is-no-kvm 125 '/dev/kvm' "${fake[@]}" "$KM" "$hello"
  refused no-dev-kvm-comes-after-not-found 127 'no such file' "${hidden[@]}" "$KM" ./no/such/program
fi

nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if [ "$(id -u)" != 0 ] || ! "${nobody[@]}" true 2>/dev/null; then
  skip no-right-to-dev-kvm 'only root can become another user'
elif "${nobody[@]}" test -w /dev/kvm; then
  skip no-right-to-dev-kvm 'everybody may use /dev/kvm here'
else
  cp "$KM" "$TMP/km"
  cp "$hello" "$TMP/hello"
  chmod 755 "$TMP" "$TMP/km" "$TMP/hello"
  refused no-right-to-dev-kvm 125 '/dev/kvm' "${nobody[@]}" "$TMP/km" "$TMP/hello"
fi

refused address-space-limit 125 'ulimit -v' bash -c 'ulimit -v 1000000; exec "$@"' - "$KM" "$hello"
