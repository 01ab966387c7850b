// Built into http_server, it adds /snapshot: the server takes a snapshot of itself, which ends it.
package main

import (
	"net/http"
	"syscall"
	"time"
)

func init() {
	http.HandleFunc("/snapshot", func(http.ResponseWriter, *http.Request) {
		go func() {
			time.Sleep(50 * time.Millisecond)
			syscall.Syscall(0x4b4d00, 0, 0, 0)
		}()
	})
}
