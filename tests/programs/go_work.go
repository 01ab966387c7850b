// Goroutines, channels, net/http with its client, timers, the garbage collector.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"
)

func main() {
	jobs := make(chan int)
	results := make(chan int, 16)
	var wg sync.WaitGroup
	for w := 0; w < 200; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range jobs {
				a, b := 0, 1
				for i := 0; i < n%1000; i++ {
					a, b = b, (a+b)%1000007
				}
				results <- a
			}
		}()
	}
	go func() {
		for i := 0; i < 100000; i++ {
			jobs <- i
		}
		close(jobs)
		wg.Wait()
		close(results)
	}()
	sum := 0
	for r := range results {
		sum += r
	}
	fmt.Println("sum", sum)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", r.URL.Path)
	})
	go http.Serve(listener, nil)
	var client sync.WaitGroup
	var mutex sync.Mutex
	total := 0
	for c := 0; c < 8; c++ {
		client.Add(1)
		go func(c int) {
			defer client.Done()
			for i := 0; i < 50; i++ {
				response, err := http.Get(fmt.Sprintf("http://%s/%d/%d", listener.Addr(), c, i))
				if err != nil {
					panic(err)
				}
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				mutex.Lock()
				total += len(body)
				mutex.Unlock()
			}
		}(c)
	}
	client.Wait()
	fmt.Println("bytes", total)
	ticker := time.NewTicker(2 * time.Millisecond)
	ticks := 0
	timeout := time.After(30 * time.Millisecond)
loop:
	for {
		select {
		case <-ticker.C:
			ticks++
		case <-timeout:
			break loop
		}
	}
	fmt.Println("ticked", ticks > 3)
	garbage := make([][]byte, 0)
	for i := 0; i < 100000; i++ {
		garbage = append(garbage, make([]byte, 1000))
		if len(garbage) > 20000 {
			garbage = garbage[10000:]
		}
	}
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Println("collected", stats.NumGC > 0)
}
