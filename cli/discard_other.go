//go:build !linux && !darwin

package cli

import "os"

// discardInput drops what a terminal has received and nobody has read; here
// there is no way to.
func discardInput(*os.File) {}
