package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/gofrs/flock"
)

// lockPatience bridges the moment for which a command holds the lock to see
// whether a daemon has gone.
const lockPatience = 250 * time.Millisecond

// errHeld is the cause when another daemon has the home: nothing is wrong then.
var errHeld = errors.New("the home has a daemon")

// lockHome takes the home for this process, and leaves its id there for people
// and for the next one that tries.
func lockHome(home string) (*flock.Flock, error) {
	path := filepath.Join(home, api.LockFile)
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		ok, err := lock.TryLock()
		if err != nil {
			return nil, authsome.E(authsome.Invalid, "use the home %s: it is not writable: %w", home, err).
				WithHint("set AUTHSOME_HOME to a directory that you can write to")
		}
		if ok {
			break
		}
		if time.Since(began) > lockPatience {
			holder := "another process"
			if pid := lockHolder(path); pid != 0 {
				holder = fmt.Sprintf("process %d", pid)
			}
			e := authsome.E(authsome.DaemonUnavailable, "start the daemon: %s is the daemon of %s already", holder, home)
			e.Err = errHeld
			return nil, e.WithHint("authsome daemon restart")
		}
	}
	// Written in place: a rename would leave the lock on another file.
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		_ = lock.Unlock()
		return nil, authsome.E(authsome.Invalid, "use the home %s: it is not writable: %w", home, err)
	}
	return lock, nil
}

// lockHolder reads the process id from a lock file; 0 when it says nothing, or
// cannot be read while it is locked (Windows).
func lockHolder(path string) int {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return pid
}

// writeRecord leaves word where the daemon is found. A torn or missing file
// costs a command its second guess only, so no more than a rename is done for
// it.
func writeRecord(home string, r api.Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(home, api.RecordFile)
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
