# A Go program, as its own compiler makes it: static, with a runtime that signals its threads.

if has_tool go go; then
  program=$OUT/go_work
  go_program "$program" "$here/go_work.go"
  for processors in 1 4; do GOMAXPROCS=$processors same "go-$processors" "$program"; done
  GOMAXPROCS=4 GOGC=5 GODEBUG=asyncpreemptoff=0 same go-collecting "$program"
fi
