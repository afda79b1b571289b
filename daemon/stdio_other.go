//go:build !linux && !darwin

package daemon

import "os"

// redirectStdio cannot be done here: what a crash prints goes to the log that
// was put aside.
func redirectStdio(*os.File) {}
