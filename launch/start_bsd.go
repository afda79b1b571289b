//go:build unix && !linux

package launch

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// childAttributes: these systems have no parent-death signal.
func childAttributes() *syscall.SysProcAttr { return nil }

// adoptOrphans: these systems give orphans to init.
func adoptOrphans() {}

func waitFor(pid int) int { return pid }

// processState asks ps, which comes with every one of these systems.
func processState(pid int) (byte, error) {
	out, err := exec.Command("/bin/ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	if state := strings.TrimSpace(string(out)); err == nil && state != "" {
		return state[0], nil
	}
	return 0, err
}
