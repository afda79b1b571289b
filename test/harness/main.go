package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Main runs the tests of a package with the program under test: built once, or the
// one that AUTHSOME_TEST_BINARY names. The package lies two folders below the
// repository's. It gives the exit code.
func Main(m *testing.M, binary *string) int {
	if *binary = os.Getenv("AUTHSOME_TEST_BINARY"); *binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "authsome-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	*binary = filepath.Join(dir, "authsome")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/authsome/authsome.Version=v0.0.0-test", "-o", *binary, "./cmd/authsome")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build authsome: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
