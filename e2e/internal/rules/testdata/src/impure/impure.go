// Package impure breaks the rule of purity in every way that it knows.
package impure

import (
	"context"
	"crypto/rand" // want `imports crypto/rand, which cannot be repeated`
	"fmt"
	"hash/maphash" // want `imports hash/maphash`
	"log/slog"     // want `imports log/slog, which writes output`
	mrand "math/rand"
	randv2 "math/rand/v2"
	"net"       // want `imports net, which reaches the network`
	"net/http"  // want `imports net/http`
	"os"        // want `imports os, which reaches the process and its files`
	"os/signal" // want `imports os/signal`
	"path/filepath"
	"runtime" // want `imports runtime`
	"sync"
	"testing/fstest" // want `imports testing/fstest`
	. "time"
	clock "time"
)

var (
	_ = rand.Reader
	_ maphash.Hash
	_ = slog.Default
	_ net.Addr
	_ http.Client
	_ = os.Getpid
	_ = signal.Stop
	_ = runtime.NumCPU
	_ fstest.MapFS
)

func clocks(t clock.Time) {
	_ = clock.Now()    // want `time.Now reads the clock`
	_ = clock.Since(t) // want `time.Since reads the clock`
	_ = clock.Until(t) // want `time.Until reads the clock`
	now := clock.Now   // want `time.Now reads the clock`
	_ = now
	_ = Now()                                           // want `time.Now reads the clock`
	Sleep(Second)                                       // want `time.Sleep waits for the clock`
	<-clock.After(1)                                    // want `time.After waits for the clock`
	<-clock.Tick(1)                                     // want `time.Tick waits for the clock`
	_ = clock.NewTimer                                  // want `time.NewTimer waits for the clock`
	_ = clock.NewTicker                                 // want `time.NewTicker waits for the clock`
	_ = clock.AfterFunc                                 // want `time.AfterFunc waits for the clock`
	_ = t.Local()                                       // want `time.Time.Local depends on the machine's time zones`
	_ = clock.Local                                     // want `time.Local depends on the machine's time zones`
	_, _ = clock.LoadLocation("UTC")                    // want `time.LoadLocation depends on`
	_, _ = context.WithTimeout(context.Background(), 1) // want `context.WithTimeout waits for the clock`
}

func chance() {
	_ = mrand.Int()                     // want `rand.Int draws from a generator that nobody seeded`
	_ = randv2.N(3)                     // want `rand.N draws from a generator that nobody seeded`
	mrand.Shuffle(1, func(int, int) {}) // want `rand.Shuffle draws from`
}

func output() {
	fmt.Println("decided")    // want `fmt.Println uses the process's streams`
	println("decided")        // want `println uses the process's streams`
	_, _ = filepath.Glob("*") // want `filepath.Glob reads the file system`
}

func concurrency() {
	go chance() // want `starts a goroutine`
	var group sync.WaitGroup
	group.Go(chance) // want `sync.WaitGroup.Go starts a goroutine`
}
