package authsome_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// limitsRow is a row of docs/limits.md that names a constant.
var limitsRow = regexp.MustCompile("(?m)^\\| [^|]+ \\| ([0-9]+)(?: (KB|MB|ms|s|min|d))? \\| `([a-z]+)\\.([A-Za-z]+)` \\|$")

// TestLimitsAreDocumented holds docs/limits.md to the constants of the code, and the
// code to having its limits there.
func TestLimitsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	consts := map[string]map[string]constant.Value{}
	for _, pkg := range []string{"proxy", "ca", "scrub", "daemon", "web"} {
		consts[pkg] = constants(t, pkg)
	}
	units := map[string]int64{
		"": 1, "KB": 1 << 10, "MB": 1 << 20,
		"ms": int64(time.Millisecond), "s": int64(time.Second), "min": int64(time.Minute), "d": int64(24 * time.Hour),
	}
	for _, row := range limitsRow.FindAllStringSubmatch(string(page), -1) {
		n, _ := strconv.ParseInt(row[1], 10, 64)
		v, ok := consts[row[3]][row[4]]
		if !ok {
			t.Errorf("docs/limits.md names %s.%s, which does not exist", row[3], row[4])
			continue
		}
		if got, exact := constant.Int64Val(v); !exact || got != n*units[row[2]] {
			t.Errorf("docs/limits.md says that %s.%s is %s %s; it is %s", row[3], row[4], row[1], row[2], v)
		}
		named[row[3]+"."+row[4]] = true
	}
	shared := regexp.MustCompile(`(?m)^\| .* \| (?:([0-9]+)(?: MB)?)? ?\| ([0-9]+)( MB)? \| .* \| ([a-z -]|` + "`" + `)+ \|$`)
	for i, row := range shared.FindAllStringSubmatch(string(page), -1) {
		for at, name := range [][]string{
			{"maxConnections", "maxRunConnections"},
			{"maxRequests", "maxRunRequests"},
			{"maxMemory", "maxRunMemory"},
			{"", "maxRunHosts"},
		}[i] {
			if name == "" {
				continue
			}
			n, _ := strconv.ParseInt(row[1+at], 10, 64)
			if row[3] != "" {
				n <<= 20
			}
			if got, _ := constant.Int64Val(consts["proxy"][name]); got != n {
				t.Errorf("docs/limits.md says that proxy.%s is %d; it is %d", name, n, got)
			}
			named["proxy."+name] = true
		}
	}
	// What is called a limit but bounds nothing that anybody could notice.
	inner := regexp.MustCompile(`^(proxy\.(max(FrameHeader|Control|Usual[A-Z][a-z]+)|unusedTime|settleTime|max(IdleWorkers|LengthDigits|Resets|KeptFields|Names))|` +
		`ca\.maxCommonName|scrub\.max(Stride|Zeros|Live)|daemon\.(max(Roots|Listed|Files|Ancestors)|siblingTime)|web\.max(Ticket|Notes|Hosts|URL))$`)
	limit := regexp.MustCompile(`^max[A-Z]|Time(out)?$`)
	for pkg, all := range consts {
		for name := range all {
			if at := pkg + "." + name; limit.MatchString(name) && !named[at] && !inner.MatchString(at) {
				t.Errorf("docs/limits.md does not have %s", at)
			}
		}
	}
}

// constants gives those of a package that are numbers.
func constants(t *testing.T, dir string) map[string]constant.Value {
	t.Helper()
	pkgs := []*ast.File{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, f)
	}
	exprs := map[string]ast.Expr{}
	for _, f := range pkgs {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, name := range v.Names {
					if i < len(v.Values) {
						exprs[name.Name] = v.Values[i]
					}
				}
			}
		}
	}
	out := map[string]constant.Value{}
	for name, e := range exprs {
		if v := evaluate(e, exprs); v != nil {
			out[name] = v
		}
	}
	if len(out) == 0 {
		t.Fatal(&fs.PathError{Op: "find constants", Path: dir, Err: fs.ErrNotExist})
	}
	return out
}

// evaluate gives the value of an expression of numbers, nil of any other.
func evaluate(e ast.Expr, known map[string]ast.Expr) constant.Value {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.INT {
			return constant.MakeFromLiteral(e.Value, e.Kind, 0)
		}
	case *ast.ParenExpr:
		return evaluate(e.X, known)
	case *ast.Ident:
		if x, ok := known[e.Name]; ok {
			return evaluate(x, known)
		}
	case *ast.SelectorExpr:
		if pkg, ok := e.X.(*ast.Ident); ok && pkg.Name == "time" {
			if d, ok := map[string]time.Duration{
				"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
			}[e.Sel.Name]; ok {
				return constant.MakeInt64(int64(d))
			}
		}
	case *ast.BinaryExpr:
		x, y := evaluate(e.X, known), evaluate(e.Y, known)
		if x == nil || y == nil {
			return nil
		}
		switch e.Op {
		case token.SHL:
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, e.Op, uint(n))
		case token.MUL, token.ADD, token.SUB:
			return constant.BinaryOp(x, e.Op, y)
		}
	}
	return nil
}
