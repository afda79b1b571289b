// Command bench measures a built authsome: what a command costs, and what the
// proxy costs against no proxy and against a blind tunnel, on this machine, in
// one run. It prints the tables of docs/performance.md.
//
// Machines differ and are noisy. The targets take turns inside every round,
// another one first each round; figures are medians over rounds and ratios are
// taken inside a round. Treat differences under 10 % as nothing.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// key is the credential that the origin asks for.
const key = "bench-key-0123456789abcdef"

func main() {
	rounds := flag.Int("rounds", 5, "rounds to take medians over")
	onlyText := flag.String("only", "", "measure only the workloads whose name this expression matches, and no commands")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [-rounds N] [-only EXPRESSION] PATH/TO/authsome")
		os.Exit(64)
	}
	if err := run(flag.Arg(0), *rounds, *onlyText); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(path string, rounds int, onlyText string) error {
	var only *regexp.Regexp
	if onlyText != "" {
		var err error
		if only, err = regexp.Compile(onlyText); err != nil {
			return fmt.Errorf("-only: %w", err)
		}
	}
	binary, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	w, err := harness.Start(binary, internet.Credentials{OpenAI: "sk-" + key})
	if err != nil {
		return err
	}
	defer w.Close()
	origin(w.Internet)
	definition := filepath.Join(w.Work(), "bench.json")
	if err := os.WriteFile(definition, []byte(`{"schema_version":1,"name":"bench","auth_type":"api_key","flow":"api_key","api_url":"`+routed+`","export":{"BENCH_KEY":"API_TOKEN"}}`), 0o600); err != nil {
		return err
	}
	for _, c := range []*harness.Command{
		w.Command("register", definition, "--yes"),
		w.Command("login", "bench", "--stdin").Input(key),
	} {
		if out, err := c.Output(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	fmt.Printf("%s, %d CPUs, %s, %s\n\n", runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format("2006-01-02"))
	if only == nil {
		if err := commands(w, rounds); err != nil {
			return err
		}
	}
	return proxies(w, rounds, only)
}

// commands measures whole processes.
func commands(w *harness.World, rounds int) error {
	fi, err := os.Stat(w.Binary)
	if err != nil {
		return err
	}
	once := func(args ...string) (time.Duration, error) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env, cmd.Dir = w.Environ(), w.Work()
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%v: %w\n%s", args, err, out)
		}
		return time.Since(began), nil
	}
	var plain, under, over, list, start []time.Duration
	for range rounds * 10 {
		a, err := once("true")
		if err != nil {
			return err
		}
		b, err := once(w.Binary, "run", "--", "true")
		if err != nil {
			return err
		}
		c, err := once(w.Binary, "list")
		if err != nil {
			return err
		}
		plain, under, over, list = append(plain, a), append(under, b), append(over, b-a), append(list, c)
	}
	idle, err := rss(w.DaemonPID())
	if err != nil {
		return err
	}
	for range rounds {
		if _, err := once(w.Binary, "daemon", "stop"); err != nil {
			return err
		}
		began := time.Now()
		if err := w.Serve(); err != nil {
			return err
		}
		start = append(start, time.Since(began))
	}
	fmt.Println("| what | median | target |")
	fmt.Println("|---|--:|--:|")
	fmt.Printf("| `true` | %s | |\n", ms(median(plain)))
	fmt.Printf("| `authsome run -- true`, daemon up | %s | |\n", ms(median(under)))
	fmt.Printf("| … over `true` itself | %s | ≤ 15 ms |\n", ms(median(over)))
	fmt.Printf("| `authsome list`, daemon up | %s | ≤ 25 ms |\n", ms(median(list)))
	fmt.Printf("| daemon start to ready, as seen by polling | %s | ≤ 150 ms |\n", ms(median(start)))
	fmt.Printf("| binary | %.1f MB | ≤ 25 MB |\n", float64(fi.Size())/1e6)
	fmt.Printf("| daemon's memory (RSS) after %d commands | %.1f MB | ≤ 30 MB |\n\n", rounds*20, float64(idle)/1e6)
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

func median[T interface{ ~int64 | ~float64 }](v []T) T {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

// rss is a process's resident memory in bytes (proc(5), status).
func rss(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no VmRSS for process %d", pid)
}

// cpu is a process's user and system time (proc(5), stat, fields 14 and 15, in
// ticks of 10 ms).
func cpu(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("process %d has a strange stat", pid)
	}
	u, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	s, err := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(u+s) * 10 * time.Millisecond, err
}
