// http_server PORT: net/http; /snapshot has it take a snapshot of itself, which ends it.
package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

func main() {
	var mutex sync.Mutex
	cache := map[string]string{}
	http.HandleFunc("/value/", func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		defer mutex.Unlock()
		answer, known := cache[r.URL.Path]
		if !known {
			answer = fmt.Sprintf("%x", sha256.Sum256([]byte(r.URL.Path)))
			cache[r.URL.Path] = answer
		}
		fmt.Fprint(w, answer)
	})
	http.HandleFunc("/state", func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		defer mutex.Unlock()
		fmt.Fprint(w, "cached ", len(cache))
	})
	http.HandleFunc("/snapshot", func(w http.ResponseWriter, r *http.Request) {
		go func() {
			time.Sleep(50 * time.Millisecond)
			syscall.Syscall(0x4b4d00, 0, 0, 0)
		}()
	})
	if err := http.ListenAndServe("127.0.0.1:"+os.Args[1], nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
