// The scheduler's programs on goroutines; what each is stands in
// benches/src/schedule/programs.rs. Run as
//
//	go run main.go yield 200 1000
//
// by hand, or built and spawned by sched-peers, once for each round. Standard
// library only. Runs the program twice, the first time to warm up, and prints
// the second as one JSON object.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type figures struct {
	Ops       uint64   `json:"ops"`
	WallNs    int64    `json:"wall_ns"`
	CPUNs     int64    `json:"cpu_ns"`
	Latencies []uint64 `json:"latencies_ns,omitempty"`
	Wrong     string   `json:"wrong,omitempty"`
}

func cpuNs() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// measure runs a program of ops operations, which gives what is wrong with its
// result.
func measure(ops uint64, body func() string) figures {
	cpu, start := cpuNs(), time.Now()
	wrong := body()
	return figures{Ops: ops, WallNs: time.Since(start).Nanoseconds(), CPUNs: cpuNs() - cpu, Wrong: wrong}
}

func expect(what string, found, expected uint64) string {
	if found == expected {
		return ""
	}
	return fmt.Sprintf("%s: %d instead of %d", what, found, expected)
}

func yieldMany(tasks, yields uint64) figures {
	return measure(tasks*yields, func() string {
		var total uint64
		var group sync.WaitGroup
		group.Add(int(tasks))
		for i := uint64(0); i < tasks; i++ {
			go func() {
				for y := uint64(0); y < yields; y++ {
					runtime.Gosched()
				}
				atomic.AddUint64(&total, yields)
				group.Done()
			}()
		}
		group.Wait()
		return expect("yields", total, tasks*yields)
	})
}

func spawnMany(tasks uint64) figures {
	const batch = 100
	return measure(tasks, func() string {
		var ran uint64
		for i := uint64(0); i < tasks/batch; i++ {
			var group sync.WaitGroup
			group.Add(batch)
			for j := 0; j < batch; j++ {
				go group.Done()
			}
			group.Wait()
			ran += batch
		}
		return expect("goroutines joined", ran, tasks)
	})
}

func link(left, at uint64, end chan<- uint64) {
	if left == 0 {
		end <- at
		return
	}
	go link(left-1, at+1, end)
}

func chained(length uint64) figures {
	return measure(length, func() string {
		end := make(chan uint64, 1)
		go link(length, 0, end)
		return expect("links", <-end, length)
	})
}

func pingPong(rounds uint64) figures {
	return measure(2*rounds, func() string {
		there, back := make(chan uint64, 1), make(chan uint64, 1)
		go func() {
			for value := range there {
				back <- value + 1
			}
		}()
		var sum uint64
		for round := uint64(0); round < rounds; round++ {
			there <- round
			sum += <-back
		}
		close(there)
		return expect("sum of answers", sum, rounds*(rounds+1)/2)
	})
}

func node(up chan<- uint64, first, size uint64) {
	if size == 1 {
		up <- first
		return
	}
	below, sums := size/10, make(chan uint64, 10)
	for child := uint64(0); child < 10; child++ {
		go node(sums, first+child*below, below)
	}
	var sum uint64
	for child := 0; child < 10; child++ {
		sum += <-sums
	}
	up <- sum
}

func skynet(leaves uint64) figures {
	return measure(leaves, func() string {
		up := make(chan uint64, 1)
		go node(up, 0, leaves)
		return expect("sum of leaves", <-up, leaves*(leaves-1)/2)
	})
}

var sink uint64

// Hogs come to no safepoint of their own: Go stops them itself. Ends after
// limitMs at the latest.
func ticker(ticks, limitMs uint64) figures {
	const period = time.Millisecond
	var stop uint32
	var hogs sync.WaitGroup
	for i := 0; i < 2*runtime.GOMAXPROCS(0); i++ {
		hogs.Add(1)
		go func(value uint64) {
			for atomic.LoadUint32(&stop) == 0 {
				for piece := 0; piece < 2000; piece++ {
					value = value*6364136223846793005 + 1442695040888963407
				}
			}
			atomic.AddUint64(&sink, value)
			hogs.Done()
		}(uint64(i))
	}
	late := make([]uint64, 0, ticks)
	result := measure(ticks, func() string {
		done := make(chan struct{})
		go func() {
			due := time.Now()
			limit := due.Add(time.Duration(limitMs) * time.Millisecond)
			for i := uint64(0); i < ticks && due.Before(limit); i++ {
				due = due.Add(period)
				time.Sleep(time.Until(due))
				now := time.Now()
				late = append(late, uint64(now.Sub(due)))
				for due.Add(period).Before(now) {
					due = due.Add(period)
				}
			}
			close(done)
		}()
		<-done
		return ""
	})
	atomic.StoreUint32(&stop, 1)
	hogs.Wait()
	result.Latencies = late
	return result
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: main yield|spawn|chained|pingpong|skynet|ticker SIZE MORE")
		os.Exit(2)
	}
	size, err := strconv.ParseUint(os.Args[2], 10, 64)
	more, err2 := strconv.ParseUint(os.Args[3], 10, 64)
	if err != nil || err2 != nil {
		fmt.Fprintln(os.Stderr, "SIZE and MORE are numbers")
		os.Exit(2)
	}
	program := map[string]func() figures{
		"yield":    func() figures { return yieldMany(size, more) },
		"spawn":    func() figures { return spawnMany(size) },
		"chained":  func() figures { return chained(size) },
		"pingpong": func() figures { return pingPong(size) },
		"skynet":   func() figures { return skynet(size) },
		"ticker":   func() figures { return ticker(size, more) },
	}[os.Args[1]]
	if program == nil {
		fmt.Fprintf(os.Stderr, "there is no program %q\n", os.Args[1])
		os.Exit(2)
	}
	if os.Args[1] != "ticker" {
		program()
	}
	if err := json.NewEncoder(os.Stdout).Encode(program()); err != nil {
		os.Exit(1)
	}
}
