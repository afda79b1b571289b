//go:build unix

package vault

import "io/fs"

// openToOthers reports whether group or others may read a file.
func openToOthers(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o077 != 0 }
