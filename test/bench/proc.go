package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc (proc(5), USER_HZ).
const tick = 10 * time.Millisecond

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

// stat gives the fields of a process's stat from the third on (proc(5)).
func stat(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	at := strings.LastIndex(string(data), ") ") // behind the name, which may hold anything
	f := strings.Fields(string(data[at+1:]))
	if at < 0 || len(f) < 15 {
		return nil, fmt.Errorf("process %d has a strange stat", pid)
	}
	return f, nil
}

// cpu is a process's user and system time (fields 14 and 15).
func cpu(pid int) (time.Duration, error) {
	f, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return sumTicks(f[11:13])
}

// cpuWithDead is the same with that of the children that it has waited for
// (fields 16 and 17).
func cpuWithDead(pid int) (time.Duration, error) {
	f, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return sumTicks(f[11:15])
}

// descendants are the processes that this one has started, and those that they
// have.
func descendants() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		f, err := stat(pid)
		if err != nil {
			continue // it has ended
		}
		parent, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, err
		}
		children[parent] = append(children[parent], pid)
	}
	all := children[os.Getpid()]
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// busy is what all processes have used of the machine since it started, and
// what its host took from it (proc(5), /proc/stat). Interrupts are left out:
// those of the loopback belong to whoever uses it, and are in no process's time.
func busy() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(f) < 9 || f[0] != "cpu" {
		return 0, errors.New("/proc/stat is strange")
	}
	return sumTicks([]string{f[1], f[2], f[3], f[8]})
}

func sumTicks(fields []string) (time.Duration, error) {
	var sum time.Duration
	for _, s := range fields {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// manyFiles lets this process and those that it starts open as many files as the
// system allows, and says how many each that is.
func manyFiles() (int, error) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, err
	}
	for _, n := range []uint64{max(lim.Max, 32<<10), lim.Max} { // more than the limit only root may have
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err == nil {
			return int(min(n, 1<<20)), nil
		}
	}
	return 0, fmt.Errorf("open %d files: see `ulimit -Hn`", lim.Max)
}
