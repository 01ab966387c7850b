# node: its HTTP server and client, worker threads, files, crypto, compression, WebAssembly, timers.

node=/usr/bin/node
if has_tool node "$node"; then
  same node-hello "$node" -e 'console.log("hello", process.argv.length)'
  same node-work "$node" "$ROOT/$here/node_work.js"
  same node-uncaught "$node" -e 'process.on("exit", (s) => console.log("exit", s)); throw new TypeError("no")'
  same node-fork-refused "$node" -e '
    try { require("child_process").spawnSync("/nonexistent"); console.log("no process"); }
    catch (e) { console.log(e.code); }'
  INPUT=$ROOT/Makefile same node-stdin "$node" -e '
    let n = 0; process.stdin.on("data", (d) => n += d.length).on("end", () => console.log(n))'
fi
