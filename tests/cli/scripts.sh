# Scripts that start with `#!`.

script() {
  cat >"$TMP/$1"
  chmod +x "$TMP/$1"
}
script plain <<'END'
#!/bin/sh
echo "script $0 with $# arguments:"
for argument; do echo "[$argument]"; done
exit 5
END
same script "$TMP/plain" one 'two words' ''
script spaces <<END
#!  	$probe	 args and one more  
END
same script-argument "$TMP/spaces" x y
printf '#!%s args' "$probe" | script no-newline
same script-no-newline "$TMP/no-newline"
script bash <<'END'
#!/bin/bash -eu
declare -A table=([a]=1 [b]=2)
for key in a b; do echo "$key=${table[$key]}"; done
false
echo never
END
same script-bash "$TMP/bash"
if has_tool script-perl perl; then
  script perl <<'END'
#!/usr/bin/perl -w
print join(",", map { $_ * $_ } @ARGV), " from $0\n";
END
  same script-perl "$TMP/perl" 1 2 3
fi
printf '#!%s/spaces\n' "$TMP" | script nested
same script-of-a-script "$TMP/nested" z

script missing <<'END'
#!/nowhere/interpreter
END
refused script-interpreter-missing 126 "'/nowhere/interpreter' does not exist" "$KM" "$TMP/missing"
printf '#!\n' | script nameless
refused script-names-nothing 126 'names no interpreter' "$KM" "$TMP/nameless"
printf '#!%s/loop\n' "$TMP" | script loop
refused script-loop 126 'is a script' "$KM" "$TMP/loop"
printf '#!%s\n' "$TMP" | script of-a-directory
refused script-interpreter-is-a-directory 126 'it is a directory' "$KM" "$TMP/of-a-directory"
