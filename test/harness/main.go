package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Main calls run, which is a testing.M's as a rule, with the program under test in
// *binary: built once, or a copy of the one that AUTHSOME_TEST_BINARY names, and
// called authsome either way. The calling package lies two folders below the
// repository's. It gives the exit code.
func Main(binary *string, run func() int) int {
	dir, err := os.MkdirTemp("", "authsome-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	*binary = filepath.Join(dir, "authsome")
	if err := place(*binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}

func place(binary string) error {
	if given := os.Getenv("AUTHSOME_TEST_BINARY"); given != "" {
		data, err := os.ReadFile(given)
		if err != nil {
			return err
		}
		return os.WriteFile(binary, data, 0o700)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/authsome/authsome.Version=v0.0.0-test", "-o", binary, "./cmd/authsome")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build authsome: %w\n%s", err, out)
	}
	return nil
}
