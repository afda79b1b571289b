package daemon

import (
	"time"

	"golang.org/x/sys/unix"
)

// knowsProcesses says that parentOf works here.
const knowsProcesses = true

// parentOf is the process that a process descends from: kern.proc.pid,
// sysctl(3).
func parentOf(pid int) (int, error) {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return 0, err
	}
	return int(p.Eproc.Ppid), nil
}

// startOf is when a process began.
func startOf(pid int) (time.Time, error) {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(p.Proc.P_starttime.Unix()), nil
}

// programOf is the name of a process, cut to 16 bytes by the kernel; "" when
// it cannot be told.
func programOf(pid int) string {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(p.Proc.P_comm[:])
}
