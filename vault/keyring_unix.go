//go:build unix && !darwin

package vault

import (
	"os"
	"path/filepath"
	"strconv"
)

// reachable says whether there is a session bus to find the Secret Service on.
// Without this question the D-Bus library starts a bus of its own, which stays
// behind and has no keyring.
func reachable() error {
	if a := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); a != "" && a != "autolaunch:" {
		return nil
	}
	run := filepath.Join("/run/user", strconv.Itoa(os.Getuid()))
	for _, name := range []string{"bus", "dbus-session"} {
		if _, err := os.Stat(filepath.Join(run, name)); err == nil {
			return nil
		}
	}
	return ErrNoKeyring
}
