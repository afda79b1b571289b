package daemon

import "io/fs"

// exposed: the access list that the profile directory hands down decides.
func exposed(fs.FileInfo) string { return "" }
