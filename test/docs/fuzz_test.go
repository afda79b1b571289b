package docs

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)
	fuzzRow  = regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` `(Fuzz\\w+)` \\| \\S.*\\| \\S.*\\| [0-9 ]+ \\| [0-9.]+ \\|$")
)

// TestFuzzTargetsDocumented holds the table of docs/testing.md to the code: every
// target has a row, and every row a target.
func TestFuzzTargetsDocumented(t *testing.T) {
	var targets, rows []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		// The module itself: what is in others is not run by make fuzz.
		if d.IsDir() && (name == "test" || name == "tools" || strings.HasPrefix(name, ".") && name != ".") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range fuzzFunc.FindAllStringSubmatch(read(t, name), -1) {
				targets = append(targets, filepath.ToSlash(filepath.Dir(name))+" "+m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) < 30 {
		t.Fatalf("only %d targets were found: the test does not see the tree", len(targets))
	}
	for _, m := range fuzzRow.FindAllStringSubmatch(read(t, "docs/testing.md"), -1) {
		rows = append(rows, m[1]+" "+m[2])
	}
	for _, name := range targets {
		if !slices.Contains(rows, name) {
			t.Errorf("docs/testing.md has no row of %s", name)
		}
	}
	for i, name := range rows {
		if !slices.Contains(targets, name) || slices.Contains(rows[:i], name) {
			t.Errorf("docs/testing.md has a row of %s that is of no target, or is there twice", name)
		}
	}
}
