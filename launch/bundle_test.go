package launch

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// file writes a file into a directory of the test's own.
func file(t *testing.T, name string, parts ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, slices.Concat(parts...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certs are the certificates of a file, each of which must parse.
func certs(t *testing.T, path string) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []*x509.Certificate
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			t.Errorf("%s holds a %s", path, b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			t.Error(err)
			continue
		}
		out = append(out, c)
	}
	if len(bytes.TrimSpace(data)) > 0 {
		t.Errorf("%s ends in %q", path, data)
	}
	return out
}

func has(list []*x509.Certificate, a authority) int {
	n := 0
	for _, c := range list {
		if c.Equal(a.cert) {
			n++
		}
	}
	return n
}

func write(t *testing.T, r *Roots, base string, ca []byte) *Trust {
	t.Helper()
	trust, err := r.Write(base, ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trust.Release)
	return trust
}

// Wherever a company's root was set, it is in the bundle, and what replaces the
// system's roots is decided by SSL_CERT_FILE alone.
func TestBundleTakesThePresetsOver(t *testing.T) {
	_, ca := newCA(t)
	ours := has
	for _, name := range slices.Concat(replacing, appending, otherSpellings) {
		t.Run(name, func(t *testing.T) {
			corp, corpPEM := newCA(t)
			env := []string{name + "=" + file(t, "corp.pem", corpPEM)}
			r := GatherRoots(env, runtime.GOOS)
			if len(r.Warnings) > 0 {
				t.Errorf("warnings: %v", r.Warnings)
			}
			trust := write(t, r, t.TempDir(), ca)
			bundle, extra := certs(t, trust.Bundle()), certs(t, trust.Authority())
			if ours(bundle, corp) != 1 {
				t.Error("the preset's root is not in the bundle")
			}
			if got := has(extra, corp) == 1; got != slices.Contains(appending, name) {
				t.Errorf("the preset's root is in ca.pem: %v", got)
			}
			switch system := len(bundle) - 2; {
			case name == "SSL_CERT_FILE" && system != 0:
				t.Errorf("%d more roots than SSL_CERT_FILE names", system)
			case name != "SSL_CERT_FILE" && system < 20:
				t.Errorf("only %d roots of the system", system)
			}
			for path, list := range map[string][]*x509.Certificate{"bundle": bundle, "ca": extra} {
				block, _ := pem.Decode(ca)
				if last := list[len(list)-1]; !bytes.Equal(last.Raw, block.Bytes) {
					t.Errorf("our root is not the last of %s", path)
				}
			}
		})
	}
}

func TestBundleOfManyPresets(t *testing.T) {
	_, ca := newCA(t)
	a, aPEM := newCA(t)
	b, bPEM := newCA(t)
	c, cPEM := newCA(t)
	dir := t.TempDir()
	for i, p := range [][]byte{bPEM, bPEM, []byte("no certificate")} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := GatherRoots([]string{
		"SSL_CERT_FILE=" + file(t, "a", aPEM, aPEM), "GIT_SSL_CAINFO=" + file(t, "a2", aPEM),
		"REQUESTS_CA_BUNDLE=" + dir, // requests takes a directory as well
		"SSL_CERT_DIR=" + file(t, "x") + string(filepath.ListSeparator) + dir + string(filepath.ListSeparator) + "/etc/ssl/certs",
		"NODE_EXTRA_CA_CERTS=" + file(t, "c", cPEM, ca),
	}, runtime.GOOS)
	trust := write(t, r, t.TempDir(), ca)
	list := certs(t, trust.Bundle())
	if len(list) != 4 || has(list, a) != 1 || has(list, b) != 1 || has(list, c) != 1 {
		t.Errorf("%d certificates: %d, %d, %d", len(list), has(list, a), has(list, b), has(list, c))
	}
	if extra := certs(t, trust.Authority()); len(extra) != 2 {
		t.Errorf("%d certificates in ca.pem", len(extra))
	}
}

// Only certificates are copied, and each comes out in the form of RFC 7468,
// however it went in.
func TestBundleCopiesCertificatesOnly(t *testing.T) {
	_, ca := newCA(t)
	a, aPEM := newCA(t)
	b, bPEM := newCA(t)
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: bytes.Repeat([]byte("SECRETKEY"), 20)})
	oneLine := []byte("-----BEGIN CERTIFICATE-----" + strings.NewReplacer("\n", "", "-----BEGIN CERTIFICATE-----", "", "-----END CERTIFICATE-----", "").Replace(string(bPEM)) + "-----END CERTIFICATE-----")
	short := []byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
	long := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(bytes.Clone(a.cert.Raw), 0)})
	path := file(t, "mixed.pem",
		[]byte("# a comment\n"), key, []byte("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), short, long,
		[]byte("-----BEGIN CERTIFICATE-----\nnever ends\n"), bytes.ReplaceAll(aPEM, []byte("\n"), []byte("\r\n")),
		key, oneLine, bytes.ReplaceAll(aPEM, []byte("\n"), []byte(" \n\t")), []byte("-----BEGIN CERTIFICATE-----\ncut off"))
	r := GatherRoots([]string{"SSL_CERT_FILE=" + path}, runtime.GOOS)
	trust := write(t, r, t.TempDir(), ca)
	list := certs(t, trust.Bundle())
	if len(list) != 3 || has(list, a) != 1 || has(list, b) != 1 {
		t.Errorf("%d certificates", len(list))
	}
	want := slices.Concat(aPEM, bPEM, ca)
	if got, _ := os.ReadFile(trust.Bundle()); !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A preset that cannot be used is named, waits for nobody, and the system's
// roots stand in for SSL_CERT_FILE.
func TestBundleWithBrokenPresets(t *testing.T) {
	_, ca := newCA(t)
	huge := file(t, "huge")
	if err := os.Truncate(huge, maxRoots+1); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, why string }{
		"missing":   {filepath.Join(t.TempDir(), "nothing"), "no such file"},
		"empty":     {file(t, "empty"), "no certificate"},
		"text":      {file(t, "text", []byte("hello")), "no certificate"},
		"broken":    {file(t, "broken", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")), "broken"},
		"huge":      {huge, "larger than 8 MB"},
		"directory": {t.TempDir(), "no certificate"},
	}
	if runtime.GOOS != "windows" {
		tests["endless"] = struct{ path, why string }{"/dev/zero", "no regular file"}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"SSL_CERT_FILE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"} {
				r := GatherRoots([]string{variable + "=" + tt.path}, runtime.GOOS)
				if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], variable+"="+tt.path) || !strings.Contains(r.Warnings[0], tt.why) {
					t.Errorf("%s: warnings %q", variable, r.Warnings)
				}
				if n := len(certs(t, write(t, r, t.TempDir(), ca).Bundle())); n < 20 {
					t.Errorf("%s: the bundle holds %d certificates", variable, n)
				}
			}
		})
	}
}

func TestBundleIsPrivateAndChecked(t *testing.T) {
	_, ca := newCA(t)
	evil, evilPEM := newCA(t)
	base := filepath.Join(t.TempDir(), "authsome", trustDir)
	env := []string{"SSL_CERT_FILE=" + file(t, "roots", evilPEM[:0], ca), "JAVA_HOME=/jvm"}
	trust := write(t, GatherRoots(env, runtime.GOOS), base, ca)
	var files []string
	err := filepath.WalkDir(base, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if want := map[bool]os.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v", path, fi.Mode(), err)
		}
		if !d.IsDir() {
			files = append(files, path)
		}
		return nil
	})
	if err != nil || len(files) != 8 {
		t.Fatalf("%v, %v", files, err)
	}
	right := map[string][]byte{}
	for _, f := range files {
		right[f], _ = os.ReadFile(f)
	}
	before, err := os.Stat(trust.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	again := write(t, GatherRoots(env, runtime.GOOS), base, ca)
	if after, err := os.Stat(again.Bundle()); err != nil || again.Dir() != trust.Dir() || !os.SameFile(before, after) {
		t.Errorf("the same roots make %s anew: %v", again.Dir(), err)
	}

	tampering := map[string]func(path string) error{
		"changed":   func(p string) error { return os.WriteFile(p, evilPEM, 0o600) },
		"appended":  func(p string) error { return os.WriteFile(p, slices.Concat(right[p], evilPEM), 0o600) },
		"same size": func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("x"), len(right[p])), 0o600) },
		"removed":   os.Remove,
		"linked": func(p string) error {
			other := filepath.Join(t.TempDir(), "elsewhere")
			if err := os.Rename(p, other); err != nil {
				return err
			}
			return os.Symlink(other, p)
		},
		"made a directory": func(p string) error { return slicesErr(os.Remove(p), os.Mkdir(p, 0o700)) },
	}
	if runtime.GOOS != "windows" {
		tampering["opened to others"] = func(p string) error { return os.Chmod(p, 0o644) }
	}
	for name, tamper := range tampering {
		for _, f := range files {
			if err := tamper(f); err != nil {
				t.Fatal(err)
			}
			write(t, GatherRoots(env, runtime.GOOS), base, ca)
			fi, err := os.Lstat(f)
			if err != nil || !fi.Mode().IsRegular() || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s is %v, %v", name, f, fi.Mode(), err)
				continue
			}
			if got, _ := os.ReadFile(f); !bytes.Equal(got, right[f]) {
				t.Errorf("%s: %s stays", name, f)
			}
		}
	}
	if has(certs(t, trust.Bundle()), evil) != 0 {
		t.Error("a root that was slipped in is trusted")
	}
	// A link in place of the whole directory.
	elsewhere := t.TempDir()
	if err := slicesErr(os.RemoveAll(trust.Dir()), os.Symlink(elsewhere, trust.Dir())); err != nil {
		t.Fatal(err)
	}
	write(t, GatherRoots(env, runtime.GOOS), base, ca)
	if fi, err := os.Lstat(trust.Dir()); err != nil || !fi.IsDir() {
		t.Errorf("the directory is %v, %v", fi.Mode(), err)
	}
	if entries, _ := os.ReadDir(elsewhere); len(entries) > 0 {
		t.Error("files were written through a link")
	}
}

func slicesErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestBundleChangesWithItsContent(t *testing.T) {
	_, ca := newCA(t)
	_, other := newCA(t)
	base := t.TempDir()
	roots := file(t, "roots", other)
	dirs := map[string]bool{}
	for _, env := range [][]string{
		{"SSL_CERT_FILE=" + roots},
		{"SSL_CERT_FILE=" + roots, "NODE_EXTRA_CA_CERTS=" + roots},
		{"SSL_CERT_FILE=" + roots, "WGETRC=" + file(t, "w", []byte("timeout=3\n"))},
	} {
		for _, ca := range [][]byte{ca, other} {
			dirs[write(t, GatherRoots(env, runtime.GOOS), base, ca).Dir()] = true
		}
	}
	if len(dirs) < 5 { // with the other as its own root, the second adds nothing to the first
		t.Errorf("%d directories for different contents", len(dirs))
	}
}

func TestBundleNeedsARoot(t *testing.T) {
	for name, ca := range map[string]string{"none": "", "broken": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := GatherRoots(nil, runtime.GOOS).Write(t.TempDir(), []byte(ca)); authsome.CodeOf(err) != authsome.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBundleWhereNothingCanBeWritten(t *testing.T) {
	_, ca := newCA(t)
	base := filepath.Join(file(t, "a file"), "authsome")
	_, err := GatherRoots(nil, runtime.GOOS).Write(base, ca)
	if authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), base) || authsome.HintOf(err) == "" {
		t.Errorf("got %v (%s)", err, authsome.HintOf(err))
	}
}

// Many runs at once, each of which finds, makes or repairs the same bundle.
func TestBundleOfConcurrentRuns(t *testing.T) {
	_, ca := newCA(t)
	base := t.TempDir()
	var wg sync.WaitGroup
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			trust, err := GatherRoots(nil, runtime.GOOS).Write(base, ca)
			if err != nil {
				t.Error(err)
				return
			}
			defer trust.Release()
			if err := trust.Check(ca); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
}

func TestSweep(t *testing.T) {
	base := t.TempDir()
	long := time.Now().Add(-keepUnused - time.Hour)
	bundle := func() (*Trust, []byte) {
		_, ca := newCA(t)
		return write(t, GatherRoots(nil, runtime.GOOS), base, ca), ca
	}
	held, _ := bundle()
	unused, _ := bundle()
	unused.Release()
	recent, _ := bundle()
	recent.Release()
	foreign := filepath.Join(base, "notes")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{held.Dir(), unused.Dir(), foreign} {
		if err := os.Chtimes(dir, long, long); err != nil {
			t.Fatal(err)
		}
	}
	bundle() // a new one sweeps
	for dir, want := range map[string]bool{held.Dir(): true, unused.Dir(): false, recent.Dir(): true, foreign: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestWgetrc(t *testing.T) {
	_, ca := newCA(t)
	theirs := "# mine\ntimeout = 3\nCA_Certificate = /x\nca-directory=/y\nhttps_proxy = http://corp\nuse-proxy=off\nHTTP-Password = hunter2\nuser = me\nheader = X: y\r\nlast = 1"
	const kept = "# mine\ntimeout = 3\nheader = X: y\nlast = 1\n"
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".wgetrc"), []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string][]string{
		"preset": {"HOME=/nowhere", "WGETRC=" + file(t, "rc", []byte(theirs))},
		"home":   {"HOME=" + home},
		"none":   {"HOME=" + t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			r := GatherRoots(env, "linux")
			trust := write(t, r, t.TempDir(), ca)
			got, err := os.ReadFile(trust.Wgetrc())
			want := kept
			if name == "none" {
				want = ""
			} else if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "password") || strings.Contains(r.Warnings[0], "hunter2") {
				t.Errorf("warnings: %q", r.Warnings)
			}
			if want += "ca_certificate=" + trust.Bundle() + "\n"; err != nil || string(got) != want {
				t.Errorf("got %q, %v", got, err)
			}
			// The inner run of a run finds what the outer wrote.
			inner := GatherRoots([]string{"WGETRC=" + trust.Wgetrc()}, "linux")
			if string(inner.wgetrc) != strings.TrimSuffix(want, "ca_certificate="+trust.Bundle()+"\n") {
				t.Errorf("inside: %q", inner.wgetrc)
			}
		})
	}
	if r := GatherRoots([]string{"WGETRC=/no/such"}, "linux"); len(r.Warnings) != 1 {
		t.Errorf("warnings: %q", r.Warnings)
	}
	ini, err := os.ReadFile(filepath.Join(write(t, GatherRoots(nil, "linux"), t.TempDir(), ca).PHP(), phpFile))
	if err != nil || !strings.Contains(string(ini), "curl.cainfo=\"/") || !strings.Contains(string(ini), "openssl.cafile=\"/") {
		t.Errorf("%q, %v", ini, err)
	}
}

// A run inside a run, and one in a shell that has outlived its run, make the
// very same bundle.
func TestBundleIsStable(t *testing.T) {
	_, ca := newCA(t)
	_, corp := newCA(t)
	base := t.TempDir()
	env := []string{"HOME=" + t.TempDir(), "NODE_EXTRA_CA_CERTS=" + file(t, "corp", corp)}
	outer := write(t, GatherRoots(env, runtime.GOOS), base, ca)
	inside, _ := Environment(Settings{Environ: env, OS: runtime.GOOS, Trust: outer})
	if inner := write(t, GatherRoots(inside, runtime.GOOS), base, ca); inner.Dir() != outer.Dir() {
		t.Errorf("%s inside %s", inner.Dir(), outer.Dir())
	}
}

func FuzzPEM(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMIGA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE----------BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----END CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s pemSet
		n, _ := s.addPEM(data)
		rest, blocks := bytes.Join(s.text, nil), 0
		for {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			blocks++
			if b.Type != "CERTIFICATE" || len(b.Headers) > 0 || !isSequence(b.Bytes) {
				t.Errorf("wrote %+v", b)
			}
		}
		if blocks != s.count || s.count > n || len(bytes.TrimSpace(rest)) > 0 {
			t.Errorf("%d blocks, %d counted, %d found; the rest is %q", blocks, s.count, n, rest)
		}
	})
}

// BenchmarkBundle is what a run pays for its bundle when nothing has changed:
// everything is read and compared.
func BenchmarkBundle(b *testing.B) {
	_, ca := newCA(b)
	dir := b.TempDir()
	first, err := GatherRoots(nil, runtime.GOOS).Write(dir, ca)
	if err != nil {
		b.Fatal(err)
	}
	first.Release()
	for b.Loop() {
		t, err := GatherRoots(nil, runtime.GOOS).Write(dir, ca)
		if err != nil {
			b.Fatal(err)
		}
		t.Release()
	}
}
