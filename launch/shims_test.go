package launch

import (
	"crypto/sha1"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	shimDir  = "/cache/authsome/trust/0123456789abcdef"
	outerDir = "/other/authsome/trust/fedcba9876543210"
	ourNode  = `--require "` + shimDir + `/node.cjs"`
	ourJava  = "-Djavax.net.ssl.trustStore=" + shimDir + "/trust.jks -Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=JKS"
)

// The person's own options stay, those of an outer run go, and what is switched
// off leaves no trace.
func TestShimVariables(t *testing.T) {
	outerNode := strings.ReplaceAll(ourNode, shimDir, outerDir)
	outerJava := strings.ReplaceAll(ourJava, shimDir, outerDir)
	tests := []struct {
		name string
		was  string // NAME=value; no "=": not set
		on   string
		off  string // "" is not set
	}{
		{"node alone", "NODE_OPTIONS", ourNode, ""},
		{"node empty", "NODE_OPTIONS=", ourNode, ""},
		{"node with options", "NODE_OPTIONS=--max-old-space-size=1  --title=x", "--max-old-space-size=1  --title=x " + ourNode, "--max-old-space-size=1  --title=x"},
		{"node with a preload", `NODE_OPTIONS=--require "/a b/\"c\".js"`, `--require "/a b/\"c\".js" ` + ourNode, `--require "/a b/\"c\".js"`},
		{"node inside a run", "NODE_OPTIONS=" + outerNode, ourNode, ""},
		{"node inside a run with options around", "NODE_OPTIONS=--title=x " + outerNode + " --no-warnings", "--title=x --no-warnings " + ourNode, "--title=x --no-warnings"},
		{"node inside two runs", "NODE_OPTIONS=" + outerNode + " " + outerNode, ourNode, ""},
		{"node with a like-named preload", "NODE_OPTIONS=--require /src/node.cjs", "--require /src/node.cjs " + ourNode, "--require /src/node.cjs"},
		{"python alone", "PYTHONPATH", shimDir + "/python", ""},
		{"python with directories", "PYTHONPATH=/a:/b", shimDir + "/python:/a:/b", "/a:/b"},
		{"python inside a run", "PYTHONPATH=" + outerDir + "/python:/a", shimDir + "/python:/a", "/a"},
		{"python with a like-named directory", "PYTHONPATH=/src/python", shimDir + "/python:/src/python", "/src/python"},
		{"java alone", "JAVA_TOOL_OPTIONS", ourJava, ""},
		{"java with options", "JAVA_TOOL_OPTIONS=-Xmx1g", "-Xmx1g " + ourJava, "-Xmx1g"},
		{"java with a store of its own", "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=/mine", "-Djavax.net.ssl.trustStore=/mine", "-Djavax.net.ssl.trustStore=/mine"},
		{"java inside a run", "JAVA_TOOL_OPTIONS=-Xmx1g " + outerJava + " -Da=b", "-Xmx1g  -Da=b " + ourJava, "-Xmx1g  -Da=b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name, _, set := strings.Cut(tt.was, "=")
			var environ []string
			if set {
				environ = []string{tt.was}
			}
			s := testSettings(environ...)
			s.Trust.java = true
			if got := childOf(s)[name]; got != tt.on {
				t.Errorf("on: %s, want %s", got, tt.on)
			}
			s.WithoutShims = []string{"java", "node", "python"}
			if got := childOf(s)[name]; got != tt.off {
				t.Errorf("off: %s, want %s", got, tt.off)
			}
		})
	}
}

func TestShimVariablesKeepNoSecret(t *testing.T) {
	s := testSettings("NODE_OPTIONS=sk-proj-REAL", "PYTHONPATH=sk-proj-REAL", "JAVA_TOOL_OPTIONS=sk-proj-REAL")
	s.Leaked = []string{"NODE_OPTIONS", "PYTHONPATH", "JAVA_TOOL_OPTIONS"}
	for _, without := range [][]string{nil, {"java", "node", "python"}} {
		s.WithoutShims = without
		if env, _ := Environment(s); strings.Contains(strings.Join(env, "\n"), "REAL") {
			t.Errorf("without %v: a secret is back", without)
		}
	}
}

func TestShimsOnWindows(t *testing.T) {
	s := testSettings(`PYTHONPATH=C:\a;D:\b`)
	s.OS, s.Trust = "windows", &Trust{dir: `C:\Users\A B\trust\0`}
	got := childOf(s)
	if v := got["PYTHONPATH"]; !strings.HasSuffix(v, `python;C:\a;D:\b`) {
		t.Errorf("PYTHONPATH=%s", v)
	}
	if v := got["NODE_OPTIONS"]; !strings.HasPrefix(v, `--require "C:\\Users\\A B\\trust\\0`) {
		t.Errorf("NODE_OPTIONS=%s", v)
	}
}

// What is changed is said, shim by shim, and no shim without a word.
func TestShimsAreExplained(t *testing.T) {
	s := testSettings()
	s.Trust.java = true
	_, changes := Environment(s)
	for _, shim := range Shims {
		if !slices.ContainsFunc(changes, func(c Change) bool { return strings.HasPrefix(c.Why, "shim "+shim.Name+": ") }) {
			t.Errorf("no change names the shim %s", shim.Name)
		}
	}
}

// A Python of an earlier run has compiled something else than what is there.
func TestBundleForgetsCompiledPython(t *testing.T) {
	_, ca := newCA(t)
	base := filepath.Join(t.TempDir(), "authsome", trustDir)
	env := []string{"SSL_CERT_FILE=" + file(t, "roots", ca)}
	trust := write(t, GatherRoots(env, "linux"), base, ca)
	compiled := filepath.Join(trust.Python(), "__pycache__", "sitecustomize.cpython-311.pyc")
	if err := os.MkdirAll(filepath.Dir(compiled), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(compiled, []byte("evil"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, GatherRoots(env, "linux"), base, ca)
	if _, err := os.Stat(compiled); err == nil {
		t.Error("it is still there")
	}
}

// The trust store has every root that Java can read, ours among them, and only
// a machine with a JVM has one. That JVMs read it is for the tests of clients.
func TestKeyStore(t *testing.T) {
	one, onePEM := newCA(t)
	two, ca := newCA(t)
	broken := []byte("-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n")
	base := filepath.Join(t.TempDir(), "authsome", trustDir)
	roots := file(t, "roots", onePEM, broken)
	trust := write(t, GatherRoots([]string{"SSL_CERT_FILE=" + roots, "JAVA_HOME=/jvm"}, "linux"), base, ca)
	data, err := os.ReadFile(trust.Java())
	if err != nil {
		t.Fatal(err)
	}
	body, sum := data[:len(data)-sha1.Size], data[len(data)-sha1.Size:]
	h := sha1.New()
	h.Write([]byte("\x00c\x00h\x00a\x00n\x00g\x00e\x00i\x00tMighty Aphrodite"))
	h.Write(body)
	if !slices.Equal(h.Sum(nil), sum) {
		t.Error("the digest is wrong")
	}
	if n := binary.BigEndian.Uint32(data[8:]); n != 2 {
		t.Errorf("%d entries", n)
	}
	for _, a := range []authority{one, two} {
		if !strings.Contains(string(body), string(a.cert.Raw)) {
			t.Error("a root is missing")
		}
	}
	without := write(t, GatherRoots([]string{"SSL_CERT_FILE=" + roots}, "linux"), base, ca)
	if _, err := os.Stat(without.Java()); err == nil || without.java {
		t.Error("there is a trust store without a JVM")
	}
}
