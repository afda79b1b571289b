// Package docs holds the documentation to what the program does: every block
// of commands is run, every link followed, every command and flag looked up.
package docs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/authsome/authsome/test/harness"
)

// root is the repository, as seen from this package's directory.
const root = "../.."

// binary is the program under test. Its file is called authsome, since the
// documentation calls it so.
var binary string

func TestMain(m *testing.M) { os.Exit(harness.Main(&binary, m.Run)) }

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
