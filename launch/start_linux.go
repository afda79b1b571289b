package launch

import (
	"bytes"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes let the child die with this process: a run that was killed
// leaves nobody behind with a grant that has ended, waiting on a dead port.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// adoptOrphans makes this process the parent of those of its descendants whose
// own parent ends, in place of init: so the daemon can tell for every process
// whether it is inside this run.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// waitFor waits for all, since orphans come in, too.
func waitFor(int) int { return -1 }

// processState is the third field of /proc/PID/stat (proc(5)); the second is
// the name, in parentheses, and may itself hold some.
func processState(pid int) (byte, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	if i := bytes.LastIndex(data, []byte(") ")); i >= 0 && i+2 < len(data) {
		return data[i+2], nil
	}
	return 0, fmt.Errorf("/proc/%d/stat cannot be read", pid)
}
