package launch

import (
	_ "embed"
	"path/filepath"
	"slices"
	"strings"
)

// Shims reach the programs that no variable for proxies reaches, by code or a
// file that their runtime loads at its start. Each does nothing where its
// runtime does the work itself.
//
//	shims/node.cjs                  --require of Node
//	shims/python/sitecustomize.py   imported by every Python that finds it
//	trust.jks                       roots for Java; see java.go
//
// They lie beside the certificates in the bundle, so that what a child starts in
// the background still finds them when the run is over. pythonDir comes first on
// PYTHONPATH, so it holds no name that a program could look for.
var (
	//go:embed shims/node.cjs
	nodeShim []byte
	//go:embed shims/python/sitecustomize.py
	siteCustomize []byte
	//go:embed shims/python/_authsome_route.py
	pythonShim []byte
)

const (
	nodeFile  = "node.cjs"
	pythonDir = "python"
)

// fixedFiles are the files of a bundle that are the same for everybody.
func fixedFiles() []trustFile {
	return []trustFile{
		{nodeFile, text{nodeShim}},
		{filepath.Join(pythonDir, "sitecustomize.py"), text{siteCustomize}},
		{filepath.Join(pythonDir, "_authsome_route.py"), text{pythonShim}},
	}
}

// Shim is one of them, for people.
type Shim struct {
	Name string `json:"name"`
	Does string `json:"does"`
}

// Shims are all that there are, by name.
var Shims = []Shim{
	{"java", "gives JVMs a trust store; their route is the program's own business"},
	{"node", "routes fetch and https of Node before 22.21, and in all versions agents of a program's own and ws"},
	{"python", "routes http.client, urllib3, aiohttp and websockets, which read no proxy variable"},
}

// Node is the file for --require.
func (t *Trust) Node() string { return filepath.Join(t.dir, nodeFile) }

// Python is the directory for PYTHONPATH.
func (t *Trust) Python() string { return filepath.Join(t.dir, pythonDir) }

// shims sets the variables of those that are on, and takes what an outer run has
// set out of those that are off.
func (c *changes) shims(s Settings) {
	use := func(name string) string {
		if s.Trust == nil || slices.Contains(s.WithoutShims, name) {
			return ""
		}
		return name
	}
	merge := func(shim, variable, value string) {
		does := Shims[slices.IndexFunc(Shims, func(s Shim) bool { return s.Name == shim })].Does
		switch was, _ := c.parent.get(variable); {
		case value == was || value == "" && slices.Contains(s.Leaked, variable):
		case value != "":
			c.set(variable, value, "shim "+shim+": "+does)
		default:
			c.remove(variable, "the "+shim+" shim of another run")
		}
	}
	// A definition has no say in these, and a secret must not come back.
	preset := func(variable string) string {
		if slices.Contains(s.Leaked, variable) {
			return ""
		}
		value, _ := c.parent.get(variable)
		return value
	}
	trust := s.Trust
	if trust == nil {
		trust = &Trust{}
	}

	options := withoutShim(preset("NODE_OPTIONS"))
	if use("node") != "" {
		options = join(options, " ", "--require "+nodeQuoted(trust.Node()))
	}
	merge("node", "NODE_OPTIONS", options)

	sep := string(listSeparator(s.OS))
	dirs := strings.Split(preset("PYTHONPATH"), sep)
	dirs = slices.DeleteFunc(dirs, func(d string) bool { return d == "" || inTrust(d, pythonDir) })
	if use("python") != "" {
		// In front, or another sitecustomize would be the only one. Ours goes on to
		// that.
		dirs = append([]string{trust.Python()}, dirs...)
	}
	merge("python", "PYTHONPATH", strings.Join(dirs, sep))

	options = withoutTrustStore(preset(javaOptions))
	if use("java") != "" && trust.java && !strings.Contains(options, javaTrustStore) {
		options = join(options, " ", trust.javaOptions())
	}
	merge("java", javaOptions, options)
}

func join(a, sep, b string) string {
	if a == "" {
		return b
	}
	return a + sep + b
}

func listSeparator(goos string) byte {
	if goos == "windows" {
		return ';'
	}
	return ':'
}

// inTrust reports whether a path leads to this name in the bundle of some run.
func inTrust(path, name string) bool {
	return filepath.Base(path) == name && filepath.Base(filepath.Dir(filepath.Dir(path))) == trustDir
}

// nodeQuoted writes a word as Node takes NODE_OPTIONS apart: at spaces, but
// within double quotes, where a backslash stands before what is meant as it is.
func nodeQuoted(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// withoutShim takes the --require of an outer run's shim out of NODE_OPTIONS,
// and leaves all else as it is written.
func withoutShim(options string) string {
	type word struct {
		text       string
		start, end int
	}
	var words []word
	var text strings.Builder
	start, quoted := -1, false
	end := func(at int) {
		if start >= 0 {
			words = append(words, word{text.String(), start, at})
			text.Reset()
			start = -1
		}
	}
	for i := 0; i < len(options); i++ {
		ch := options[i]
		if ch == ' ' && !quoted {
			end(i)
			continue
		}
		if start < 0 {
			start = i
		}
		switch {
		case ch == '\\' && quoted && i+1 < len(options):
			i++
			text.WriteByte(options[i])
		case ch == '"':
			quoted = !quoted
		default:
			text.WriteByte(ch)
		}
	}
	end(len(options))
	for i := len(words) - 1; i > 0; i-- {
		if words[i-1].text == "--require" && inTrust(words[i].text, nodeFile) {
			options = strings.TrimRight(options[:words[i-1].start], " ") + options[words[i].end:]
		}
	}
	return strings.TrimSpace(options)
}
