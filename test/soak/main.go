// Command soak runs a built authsome for a long time under load and chaos, and
// checks what must hold meanwhile. docs/testing.md says what that is.
//
//	main.go      flags
//	soak.go      the order: rounds of chaos, each followed by a rest and its checks
//	child.go     the load: a program under `authsome run`; streams.go is what it does,
//	             and calls.go one request of each kind
//	runs.go      the runs whose children that are, and how they end
//	chaos.go     what is done to them, by a seeded generator
//	restart.go   what is done to the daemon
//	logins.go    what is done to logins
//	services.go  the services that are called, and what they keep of each call
//	oauth.go     an authorization server that ends a login whose refresh token comes twice
//	keys.go      which keys there are, and whose each is
//	roster.go    which account each run is to use, and which runs are over
//	judge.go     which failures what was done excuses
//	audit.go     the audit, compared with what the services saw
//	growth.go    what the daemon holds when nothing is under way
//	dump.go      its goroutines
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	if playChild() {
		return
	}
	o := options{pause: 4 * time.Second}
	flag.DurationVar(&o.time, "time", 30*time.Minute, "how long, all in all")
	flag.DurationVar(&o.round, "round", 100*time.Second, "how long the load runs between two rests")
	flag.IntVar(&o.streams, "streams", 500, "streams at once, of all kinds")
	flag.IntVar(&o.runs, "runs", 8, "runs that they are spread over, at least 4")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of everything that is done by chance")
	flag.BoolVar(&o.verbose, "v", false, "print every request that failed, and why it may")
	flag.Parse()
	if flag.NArg() != 1 || o.runs < 4 || o.streams < o.runs*len(kinds) {
		fmt.Fprintf(os.Stderr, "usage: soak [flags] PATH/TO/authsome\nThere are at least 4 runs, with a stream of each of %d kinds.\n", len(kinds))
		flag.PrintDefaults()
		os.Exit(64)
	}
	o.settle, o.last = min(o.time/20, 20*time.Second), min(o.time/6, 2*time.Minute)
	var err error
	if o.binary, err = filepath.Abs(flag.Arg(0)); err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, o, os.Stdout)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}
