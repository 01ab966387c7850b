// http_server PORT: net/http. What it answers is in services.py.
package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
)

var (
	mutex  sync.Mutex
	cache  = map[string]string{}
	counts = map[string]int{}
)

func answer(w http.ResponseWriter, r *http.Request) {
	mutex.Lock()
	defer mutex.Unlock()
	what, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch what {
	case "value":
		if _, known := cache[key]; !known {
			cache[key] = fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Repeat(key, 1000))))
		}
		fmt.Fprint(w, cache[key])
	case "count":
		counts[key]++
		fmt.Fprint(w, counts[key])
	case "peek":
		fmt.Fprint(w, counts[key])
	default:
		fmt.Fprint(w, "cached ", len(cache))
	}
}

func main() {
	http.HandleFunc("/", answer)
	if err := http.ListenAndServe("127.0.0.1:"+os.Args[1], nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
