// Command bench measures a built authsome against no proxy, a blind tunnel, and
// other proxies, on this machine, in one run, and prints the tables of
// docs/performance.md, where the method is written down.
//
//	main.go       flags and order
//	measure.go    rounds: what is measured, and how
//	targets.go    the ways to the origin: direct, authsome, HAProxy, mitmproxy …
//	yardstick.go  the least that an interceptor on net/http does
//	origin.go     the service behind all of them
//	load.go       what asks it; wire.go, h2.go and websocket.go are its protocols
//	world.go      a home with its daemon and its runs
//	commands.go   what a command costs, and the start
//	idle.go       what an idle stream costs
//	quiet.go      what others do with the machine meanwhile
//	curves.go     whether cost grows with what is stored; svg.go draws it
//	report.go     the tables
//	role.go       origin, load and yardstick as processes of their own
//	proc.go       what processes use
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// processors are those of the machine.
var processors = runtime.NumCPU()

func main() {
	if playRole() {
		return
	}
	o := options{set: settings{rest: 250 * time.Millisecond}}
	flag.IntVar(&o.set.rounds, "rounds", 5, "rounds to take medians over")
	flag.DurationVar(&o.set.each, "each", 1500*time.Millisecond, "how long one measurement takes")
	flag.IntVar(&o.set.hosts, "hosts", 200, "never-seen hosts of one measurement")
	flag.IntVar(&o.set.idle, "idle", 1000, "idle streams")
	flag.DurationVar(&o.patience, "patience", 0, "how long to wait, in all, for others to leave the machine alone, and to take rounds again that they disturbed")
	flag.BoolVar(&o.set.verbose, "v", false, "print each measurement to standard error")
	flag.BoolVar(&o.full, "full", false, "also 10,000 idle streams of 1,000 runs, or as many as files may be open")
	flag.StringVar(&o.only, "only", "", "measure only the workloads whose name this expression matches, and nothing else")
	flag.StringVar(&o.targets, "targets", "", "measure only direct and the targets whose name this expression matches")
	flag.StringVar(&o.against, "against", "", "other builds of authsome to measure beside it, with commas between them")
	flag.StringVar(&o.doc, "doc", "", "put what is printed into this file as well, in place of what an earlier run has put there")
	flag.BoolVar(&o.curves, "curves", false, "measure the growth with what is stored instead")
	flag.IntVar(&o.largest, "largest", 1_000_000, "with -curves: leave larger sizes out")
	flag.StringVar(&o.pictures, "pictures", "", "draw the curves into this directory")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [flags] PATH/TO/authsome")
		flag.PrintDefaults()
		os.Exit(64)
	}
	if err := o.run(flag.Arg(0), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	set           settings
	full          bool
	fullStreams   int // 0 without full
	only, targets string
	against       string
	doc           string
	curves        bool
	largest       int
	pictures      string
	patience      time.Duration
}

// run measures and reports.
func (o options) run(binary string, stdout io.Writer) error {
	o.set.patience = &o.patience
	files, err := manyFiles()
	if err != nil {
		return err
	}
	if o.full {
		// The daemon has two connections for each stream, and keeps an eighth of the
		// files for itself and for runs; and the last streams go to runs that have
		// fewer than others.
		o.fullStreams = min(10_000, (files-files/8)/2*9/10)
	}
	l, err := newLab(binary)
	if err != nil {
		return err
	}
	defer l.close()
	stop := closeAtSignal(l)
	defer stop()
	var text strings.Builder
	out := io.MultiWriter(stdout, &text)
	section := "bench"
	if o.curves {
		section = "curves"
		err = l.curves(out, o)
	} else {
		err = l.bench(out, o)
	}
	if err != nil || o.doc == "" {
		return err
	}
	return insert(o.doc, section, text.String())
}

// closeAtSignal ends everything when somebody wants this program to end, which
// then does.
func closeAtSignal(l *lab) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-c; !ok {
			return
		}
		pids, _ := descendants()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
		_ = os.RemoveAll(l.dir)
		os.Exit(130)
	}()
	return func() { signal.Stop(c); close(c) }
}

// bench prints the tables.
func (l *lab) bench(out io.Writer, o options) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	which, err := regexp.Compile(o.targets)
	if err != nil {
		return fmt.Errorf("-targets: %w", err)
	}
	r := &report{out: out}
	r.machine(l)
	if o.only == "" {
		if err := l.commands(r, o.set); err != nil {
			return err
		}
	}
	var against []string
	if o.against != "" {
		against = strings.Split(o.against, ",")
	}
	all, missing := l.targets(against)
	var targets []*target
	for _, t := range all {
		if t.name == nameDirect || which.MatchString(t.name) || slices.ContainsFunc(against, func(b string) bool { return t.name == filepath.Base(b) }) {
			targets = append(targets, t)
		}
	}
	defer func() {
		for _, t := range targets {
			t.halt()
		}
	}()
	for _, w := range workloads {
		if !only.MatchString(w.name) {
			continue
		}
		row, err := l.measure(w, targets, o.set)
		if err != nil {
			return err
		}
		r.rows = append(r.rows, row)
	}
	if only.MatchString(nameIdle) {
		if err := l.idle(r, targets, o.set, o.fullStreams); err != nil {
			return err
		}
	}
	r.print(targets, missing)
	return nil
}
