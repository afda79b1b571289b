//go:build !linux && !darwin

package daemon

import (
	"errors"
	"time"
)

// knowsProcesses: the socket does not tell the peer's process here, so a run's
// descendants cannot be told from the person's own commands.
const knowsProcesses = false

func parentOf(int) (int, error) { return 0, errors.ErrUnsupported }

func startOf(int) (time.Time, error) { return time.Time{}, errors.ErrUnsupported }

func programOf(int) string { return "" }
