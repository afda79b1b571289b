package authsome_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/authsome/authsome"

// mayImport is the import rule: what each package may import of this module.
// Imports go down only, and peers never import each other; interfaces are
// declared by the package that uses them. A package that is missing here fails
// the test, so adding one is a decision.
var mayImport = map[string][]string{
	"":                {},
	"route":           {""},
	"provider":        {"", "route"},
	"audit":           {"", "route"},
	"store":           {"", "audit"},
	"store/storetest": {"", "audit"},
	"vault":           {""},
	"ca":              {""},
	"scrub":           {""},
	"flow":            {"", "provider"},
	"broker":          {"", "route", "flow", "scrub"},
	"sigv4":           {""},
	"sigv4/sigv4test": {},
	"proxy":           {"", "route", "scrub", "sigv4"},
	"launch":          {""},
	"api":             {""},
	"web":             {""},
	"daemon": {
		"", "route", "provider", "audit", "store", "vault", "ca", "flow", "broker", "proxy", "api", "web",
	},
	"cli":          {"", "api", "launch"},
	"cmd/authsome": {"", "cli", "daemon"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

// TestImports holds the import rule for the packages as they are built, tests
// left out: a test may stand several real packages together.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := mayImport[name]
		internal := strings.HasPrefix(name, "internal/")
		if !known && !internal {
			t.Errorf("package %s is not in the import rule: add it to mayImport, if it has a place there", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				if name == "" || internal {
					if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && !strings.HasPrefix(imp, "golang.org/x/sys") {
						t.Errorf("%s imports %s: only the standard library is allowed there", p.ImportPath, imp)
					}
				}
				continue
			}
			dep := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
			if !slices.Contains(allowed, dep) && (internal || !strings.HasPrefix(dep, "internal/")) {
				t.Errorf("%s imports %s, which the import rule does not allow", p.ImportPath, imp)
			}
		}
	}
}

// mayReveal are the places where the plaintext of a Secret is needed: to seal
// it, to check what was typed, to put it on a request, to send it over the
// send it over the local socket, and to show it to a person who asked.
var mayReveal = regexp.MustCompile(`^(vault/|flow/|broker/|proxy/|sigv4/sign|scrub/scrub\.go|api/client|daemon/handle|cli/(export|get|login)|secret\.go)`)

var reveal = regexp.MustCompile(`\.Reveal\(\)`)

// TestReveal keeps plaintext in the few files that cannot do without it.
func TestReveal(t *testing.T) {
	goFiles(t, func(path, text string) {
		if !mayReveal.MatchString(path) && reveal.MatchString(text) {
			t.Errorf("%s calls Secret.Reveal: pass the Secret on instead, or add the file to mayReveal with a reason", path)
		}
	})
}

// vague are package names that say nothing about what is inside.
var vague = regexp.MustCompile(`(?m)^package (util|utils|common|helpers?|manager|misc|shared)$`)

// unfinished marks work that was put off.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

// TestHouseRules holds what a reviewer would otherwise say again and again.
func TestHouseRules(t *testing.T) {
	goFiles(t, func(path, text string) {
		if m := vague.FindString(text); m != "" {
			t.Errorf("%s: %q says nothing about what is inside", path, m)
		}
		if m := unfinished.FindString(text); m != "" && path != "arch_test.go" {
			t.Errorf("%s holds a %s: finish it, or say in the documentation what is not done", path, m)
		}
	})
}

// goFiles calls f for every Go file of the main module that is no test.
func goFiles(t *testing.T, f func(path, text string)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || path == "test" || path == "tools" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		f(filepath.ToSlash(path), string(data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Fatalf("only %d Go files were looked at: the test does not see the tree", seen)
	}
}
