// Package docs holds the documentation to what the program does: every block
// of commands is run, every link followed, every command and flag looked up.
package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// root is the repository, as seen from this package's directory.
const root = "../.."

// binary is the program under test: built once, or the one that
// AUTHSOME_TEST_BINARY names. Its file is called authsome either way, since the
// documentation calls it so.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "authsome-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "authsome")
		if given := os.Getenv("AUTHSOME_TEST_BINARY"); given != "" {
			data, err := os.ReadFile(given)
			if err == nil {
				err = os.WriteFile(binary, data, 0o700)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return m.Run()
		}
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/authsome")
		build.Dir = root
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build authsome: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// pages are README.md and docs/*.md, named as from the repository's root.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	names := []string{"README.md"}
	for _, path := range found {
		names = append(names, filepath.Join("docs", filepath.Base(path)))
	}
	slices.Sort(names)
	return names
}

// read is a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
