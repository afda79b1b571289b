package truststore_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/internal/truststore"
)

// newRoot makes a self-signed certificate; ended is one whose time is over.
func newRoot(t *testing.T, name string, ended bool) truststore.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	if ended {
		until = time.Now().Add(-time.Hour)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// host is a home directory of its own, where nothing is done as root.
func host(t *testing.T, home string, environ ...string) *truststore.Host {
	t.Helper()
	return &truststore.Host{
		Home: home,
		Getenv: func(name string) string {
			for _, kv := range environ {
				if v, ok := strings.CutPrefix(kv, name+"="); ok {
					return v
				}
			}
			return ""
		},
		Run: func(ctx context.Context, root bool, argv ...string) ([]byte, error) {
			if root && os.Geteuid() != 0 {
				t.Errorf("%q is to be run as root", argv)
			}
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
			return cmd.CombinedOutput()
		},
	}
}

// at is the store of a host in a place.
func at(t *testing.T, h *truststore.Host, kind truststore.Kind, where string) truststore.Store {
	t.Helper()
	all := h.Find()
	for _, s := range all {
		if s.Kind == kind && s.Where == where {
			if s.Lacks != "" {
				need(t, s.Lacks)
			}
			return s
		}
	}
	t.Fatalf("there is no store %s at %s, but %+v", kind, where, all)
	panic("unreachable")
}

// need is for what test/install.sh installs on Debian.
func need(t *testing.T, what string) {
	t.Helper()
	if _, err := os.Stat("/etc/debian_version"); err == nil {
		t.Fatalf("%s: run test/install.sh", what)
	}
	t.Skip(what)
}

// exercise holds what every store does: ours in and out, old ones out with the
// new one in, those whose time is over too, and nobody else's touched. names
// lists what is in the store, however that is found out.
func exercise(t *testing.T, s truststore.Store, names func() string) {
	t.Helper()
	ctx := t.Context()
	first, second, ended := newRoot(t, "one", false), newRoot(t, "two", false), newRoot(t, "three", true)
	ours := []truststore.Certificate{first, second, ended}
	before := names()
	has := func(want ...truststore.Certificate) {
		t.Helper()
		got, err := s.Has(ctx, ours)
		if err != nil {
			t.Fatal(err)
		}
		is := func(certs []truststore.Certificate) (n []string) {
			for _, c := range certs {
				n = append(n, c.Name())
			}
			slices.Sort(n)
			return n
		}
		if !slices.Equal(is(got), is(want)) {
			t.Fatalf("it has %v, want %v", is(got), is(want))
		}
	}
	install := func(c truststore.Certificate, want bool) {
		t.Helper()
		if changed, err := s.Install(ctx, c, ours); err != nil || changed != want {
			t.Fatalf("install: changed %t, %v", changed, err)
		}
	}
	has()
	install(ended, true)
	has(ended)
	install(first, true)
	has(first)
	install(first, false)
	install(second, true)
	has(second)
	if changed, err := s.Uninstall(ctx, []truststore.Certificate{first}); changed || err != nil {
		t.Errorf("another one was uninstalled: %v", err)
	}
	has(second)
	if changed, err := s.Uninstall(ctx, ours); !changed || err != nil {
		t.Errorf("uninstall: changed %t, %v", changed, err)
	}
	has()
	if changed, err := s.Uninstall(ctx, ours); changed || err != nil {
		t.Errorf("uninstall again: changed %t, %v", changed, err)
	}
	if after := names(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

func certutil(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("certutil")
	if err != nil {
		need(t, "certutil is missing")
	}
	return path
}

func TestNSS(t *testing.T) {
	t.Parallel()
	tool := certutil(t)
	home := filepath.Join(t.TempDir(), "a [strange] home")
	h := host(t, home)
	if all := h.Find(); slices.ContainsFunc(all, func(s truststore.Store) bool { return s.Kind == truststore.NSS }) {
		t.Errorf("there are databases in a home without any: %+v", all)
	}
	for _, dir := range []string{".pki/nssdb", ".mozilla/firefox/x1.default", ".mozilla/firefox/x2.dev-edition", "snap/firefox/common/.mozilla/firefox/y"} {
		dir = filepath.Join(home, dir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		output(t, tool, "-N", "-d", "sql:"+dir, "--empty-password")
		// Somebody else's, one of them under a name that could be ours.
		for name, c := range map[string]truststore.Certificate{"company": newRoot(t, "company", false), "authsome-0123456789abcdef": newRoot(t, "lookalike", false)} {
			file := filepath.Join(dir, "x.pem")
			if err := os.WriteFile(file, []byte(certPEM(c)), 0o600); err != nil {
				t.Fatal(err)
			}
			output(t, tool, "-A", "-d", "sql:"+dir, "-t", "C,,", "-n", name, "-i", file)
		}
		s := at(t, h, truststore.NSS, dir)
		if s.Root {
			t.Error("root is needed for the person's own database")
		}
		exercise(t, s, func() string { return output(t, tool, "-L", "-d", "sql:"+dir) })
	}
}

// TestNSSBrokenDatabase: a database that cannot be read is an error that names
// the tool, not a store that is taken for empty.
func TestNSSBrokenDatabase(t *testing.T) {
	t.Parallel()
	certutil(t)
	home := t.TempDir()
	dir := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cert9.db", "key4.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("not a database"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := at(t, host(t, home), truststore.NSS, dir)
	c := newRoot(t, "one", false)
	if _, err := s.Has(t.Context(), []truststore.Certificate{c}); err == nil || !strings.Contains(err.Error(), "certutil") {
		t.Errorf("has: %v", err)
	}
	if _, err := s.Install(t.Context(), c, nil); err == nil {
		t.Error("it was installed")
	}
}

// TestJava uses a copy of the machine's cacerts, and its keytool.
func TestJava(t *testing.T) {
	t.Parallel()
	java, err := exec.LookPath("java")
	if err != nil {
		need(t, "java is missing")
	}
	if java, err = filepath.EvalSymlinks(java); err != nil {
		t.Fatal(err)
	}
	real := filepath.Dir(filepath.Dir(java))
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, "jvm", "lib", "security"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(real, "bin"), filepath.Join(home, "jvm", "bin")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(real, "lib", "security", "cacerts"))
	if err != nil {
		t.Fatal(err)
	}
	cacerts := filepath.Join(home, "jvm", "lib", "security", "cacerts")
	if err := os.WriteFile(cacerts, data, 0o644); err != nil {
		t.Fatal(err)
	}
	h := host(t, home, "JAVA_HOME="+filepath.Join(home, "jvm"))
	list := func() string {
		out := output(t, filepath.Join(home, "jvm", "bin", "keytool"), "-J-Duser.language=en", "-list", "-keystore", cacerts, "-storepass", "changeit")
		return out[strings.Index(out, "Your keystore"):]
	}
	s := at(t, h, truststore.Java, cacerts)
	if s.Root {
		t.Error("root is needed for a file of the person's own")
	}
	exercise(t, s, list)

	// As Debian's hook of ca-certificates enters it.
	c := newRoot(t, "one", false)
	file := filepath.Join(home, "x.pem")
	if err := os.WriteFile(file, []byte(certPEM(c)), 0o600); err != nil {
		t.Fatal(err)
	}
	before := list()
	output(t, filepath.Join(real, "bin", "keytool"), "-importcert", "-noprompt", "-keystore", cacerts, "-storepass", "changeit", "-alias", "debian:"+c.Name()+".pem", "-file", file)
	if changed, err := s.Install(t.Context(), c, nil); changed || err != nil {
		t.Errorf("it was added a second time: %v", err)
	}
	if changed, err := s.Uninstall(t.Context(), []truststore.Certificate{c}); !changed || err != nil || list() != before {
		t.Errorf("an entry of another name was not removed: %v", err)
	}
	if fi, err := os.Stat(cacerts); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if runtime.GOOS != "windows" && strings.Contains(list(), "authsome") {
		t.Error("something of ours is left")
	}
}

// TestWithoutTools: what is missing is said, and is no crash.
func TestWithoutTools(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, "jvm", "lib", "security"), 0o700); err != nil {
		t.Fatal(err)
	}
	cacerts := filepath.Join(home, "jvm", "lib", "security", "cacerts")
	if err := os.WriteFile(cacerts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range host(t, home, "JAVA_HOME="+filepath.Join(home, "jvm")).Find() {
		if s.Where != cacerts {
			continue
		}
		if !strings.Contains(s.Lacks, "keytool") {
			t.Errorf("it lacks %q", s.Lacks)
		}
		if _, err := s.Install(t.Context(), newRoot(t, "one", false), nil); err == nil || !strings.Contains(err.Error(), "keytool") {
			t.Errorf("install: %v", err)
		}
		return
	}
	t.Error("the virtual machine was not found")
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := truststore.Parse(text); err == nil {
			t.Errorf("%q is a certificate", text)
		}
	}
}

func certPEM(c truststore.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}))
}
