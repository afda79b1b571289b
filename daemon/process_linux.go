package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// knowsProcesses says that parentOf works here.
const knowsProcesses = true

// parentOf is the process that a process descends from: field 4 of
// /proc/PID/stat, proc(5). The program's name in field 2 stands in parentheses
// and may hold any character, so the last ")" ends it.
func parentOf(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 2 {
		return 0, errors.New("/proc: a line that this version does not know")
	}
	return strconv.Atoi(string(fields[1]))
}

// startOf is when a process began: field 22 of /proc/PID/stat, in ticks of
// 1/100 s (USER_HZ, the same on every architecture that Go runs on) since the
// boot time of /proc/stat. It is right to a second.
func startOf(pid int) (time.Time, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}, err
	}
	unknown := errors.New("/proc: a line that this version does not know")
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return time.Time{}, unknown
	}
	ticks, err := strconv.ParseInt(string(fields[19]), 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(stat)) {
		if boot, ok := strings.CutPrefix(line, "btime "); ok {
			secs, err := strconv.ParseInt(strings.TrimSpace(boot), 10, 64)
			return time.Unix(secs, 0).Add(time.Duration(ticks) * 10 * time.Millisecond), err
		}
	}
	return time.Time{}, unknown
}

// programOf is the base name of a process's executable; "" when it cannot be
// told. The kernel marks one that was replaced.
func programOf(pid int) string {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(filepath.Base(exe), " (deleted)")
}
