//go:build !linux

package daemon

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// portHolder asks lsof, where there is one: -Fpcu prints a line for each of
// process id, command and user id.
func portHolder(ctx context.Context, port int) holder {
	h := holder{UID: -1}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "lsof", "-nP", "-w", fmt.Sprintf("-iTCP@127.0.0.1:%d", port), "-sTCP:LISTEN", "-Fpcu").Output()
	if err != nil {
		return h
	}
	for line := range strings.Lines(string(out)) {
		value := strings.TrimSpace(line[1:])
		switch line[0] {
		case 'p':
			h.PID, _ = strconv.Atoi(value)
		case 'c':
			h.Program = value
		case 'u':
			if uid, err := strconv.Atoi(value); err == nil {
				h.UID = uid
			}
		}
	}
	return h
}
