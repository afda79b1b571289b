package daemon

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portHolder finds the listening socket in /proc/net/tcp and tcp6, proc(5),
// and then the process that has it open. The latter needs to be allowed to look
// into that process; the user is known in any case.
func portHolder(_ context.Context, port int) holder {
	inode, uid := listeningSocket(port)
	h := holder{UID: uid}
	if inode == "" {
		return h
	}
	want := "socket:[" + inode + "]"
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return h
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", p.Name(), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if link, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && link == want {
				h.PID = pid
				return h
			}
		}
	}
	return h
}

// listeningSocket gives inode and user of the socket that listens on a port of
// 127.0.0.1 or of all addresses; "" and -1 when there is none.
//
//	sl  local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode
//	0:  0100007F:1F3E 00000000:0000 0A …                                0   0       12345
func listeningSocket(port int) (inode string, uid int) {
	suffix := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		inode, uid = listeningIn(bufio.NewScanner(f), suffix)
		_ = f.Close()
		if inode != "" {
			return inode, uid
		}
	}
	return "", -1
}

func listeningIn(lines *bufio.Scanner, suffix string) (inode string, uid int) {
	const listening = "0A" // TCP_LISTEN
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != listening || !strings.HasSuffix(f[1], suffix) {
			continue
		}
		addr := strings.TrimSuffix(f[1], suffix)
		local := addr == "0100007F" || // 127.0.0.1 as a little-endian word
			addr == "0000000000000000FFFF00000100007F" || // the same, mapped
			strings.Trim(addr, "0") == ""
		if n, err := strconv.Atoi(f[7]); err == nil && local {
			return f[9], n
		}
	}
	return "", -1
}
