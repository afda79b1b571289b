package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// headers keeps headers in memory, with the store's rule: no overwriting.
type headers map[string][]byte

func (h headers) VaultHeader(_ context.Context, id string) ([]byte, error) { return h[id], nil }

func (h headers) CreateVaultHeader(_ context.Context, id string, header []byte) error {
	if h[id] != nil {
		return errors.New("there is one already")
	}
	h[id] = header
	return nil
}

// ring is an operating system's keyring. A hanging one is locked, with nobody
// there to unlock it.
type ring struct {
	entries map[string]string
	err     error
	hangs   bool
	forgets bool
}

func (r *ring) Get(service, user string) (string, error) {
	if r.hangs {
		select {}
	}
	if r.err != nil {
		return "", r.err
	}
	if v, ok := r.entries[service+"/"+user]; ok {
		return v, nil
	}
	return "", ErrNoKey
}

func (r *ring) Set(service, user, password string) error {
	if r.err == nil && !r.forgets {
		r.entries[service+"/"+user] = password
	}
	return r.err
}

func env(kv ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == name {
				return kv[i+1]
			}
		}
		return ""
	}
}

func open(t *testing.T, c Config) *Vault {
	t.Helper()
	v, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func refused(t *testing.T, c Config, parts ...string) {
	t.Helper()
	before, _ := os.ReadFile(filepath.Join(c.Home, KeyFile))
	header := bytes.Clone(c.Headers.(headers)[authsome.LocalVault])
	_, err := Open(context.Background(), c)
	if authsome.CodeOf(err) != authsome.VaultFailed {
		t.Fatalf("error %v, want one of the vault", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error()+" "+authsome.HintOf(err), p) {
			t.Errorf("%q is not in %q, hint %q", p, err, authsome.HintOf(err))
		}
	}
	if authsome.HintOf(err) == "" && !strings.Contains(err.Error(), "not a key") {
		t.Errorf("%q says nothing of what to do", err)
	}
	after, _ := os.ReadFile(filepath.Join(c.Home, KeyFile))
	if !bytes.Equal(before, after) || !bytes.Equal(header, c.Headers.(headers)[authsome.LocalVault]) {
		t.Error("the key or the header was changed by a refusal")
	}
}

var place = authsome.Binding{Kind: "connection", Vault: "local", User: "local", Provider: "github", Name: "work", Version: 3}

func TestFileSource(t *testing.T) {
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}}
	v := open(t, c)
	if v.Source() != "file" {
		t.Errorf("source %s", v.Source())
	}
	sealed, err := v.Seal(place, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Home, KeyFile)
	if fi, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", fi, err)
	}
	if plain, err := open(t, c).Unseal(place, sealed); err != nil || string(plain) != "secret" {
		t.Errorf("after reopening: %v", err)
	}
	// The source is recorded: a variable that appears later changes nothing.
	c.Getenv = env(envKey, hex.EncodeToString(make([]byte, 32)))
	if plain, err := open(t, c).Unseal(place, sealed); err != nil || string(plain) != "secret" {
		t.Errorf("with a variable that the vault was not made with: %v", err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, c, "0644", "chmod 600")
		_ = os.Chmod(path, 0o600)
	}
	good, _ := os.ReadFile(path)
	_ = os.WriteFile(path, []byte(`{"version":1,"key":"`+base64.StdEncoding.EncodeToString(make([]byte, 32))+`"}`), 0o600)
	refused(t, c, "not the one")
	_ = os.WriteFile(path, good[:20], 0o600)
	refused(t, c, KeyFile)
	_ = os.Remove(path)
	refused(t, c, "gone", "copy")
}

// TestKeyWithoutVault: making a vault was cut short after its key was written,
// or the database was lost. The key is used again.
func TestKeyWithoutVault(t *testing.T) {
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}}
	sealed, _ := open(t, c).Seal(place, []byte("x"))
	before, _ := os.ReadFile(filepath.Join(c.Home, KeyFile))
	c.Headers = headers{}
	v := open(t, c)
	after, _ := os.ReadFile(filepath.Join(c.Home, KeyFile))
	if !bytes.Equal(before, after) {
		t.Error("the key was overwritten")
	}
	if _, err := v.Unseal(place, sealed); err == nil {
		t.Error("a new vault opens another one's records")
	}
	_ = os.WriteFile(filepath.Join(c.Home, KeyFile), []byte("something else"), 0o600)
	c.Headers = headers{}
	refused(t, c, KeyFile)
}

func TestEnvironmentSource(t *testing.T) {
	raw := bytes.Repeat([]byte{0xfb}, 32)
	for _, text := range []string{
		hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), base64.URLEncoding.EncodeToString(raw),
		base64.RawURLEncoding.EncodeToString(raw) + "\n",
	} {
		c := Config{Home: t.TempDir(), Getenv: env(envKey, text), Headers: headers{}}
		if v := open(t, c); v.Source() != "env" {
			t.Errorf("source %s", v.Source())
		}
		if _, err := os.Stat(filepath.Join(c.Home, KeyFile)); err == nil {
			t.Error("a key file was made though the environment has the key")
		}
		c.Getenv = env()
		refused(t, c, envKey, "not set")
		c.Getenv = env(envKey, hex.EncodeToString(make([]byte, 32)))
		refused(t, c, "not the one")
	}
	const passphrase = "correct horse battery staple"
	for _, bad := range []string{passphrase, "x", hex.EncodeToString(raw[:31])} {
		c := Config{Home: t.TempDir(), Getenv: env(envKey, bad), Headers: headers{}}
		refused(t, c, "32 bytes")
		if _, err := Open(context.Background(), c); strings.Contains(err.Error(), bad) && len(bad) > 1 {
			t.Error("the error quotes the key")
		}
	}
}

func TestEnvironmentFileSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(hex.EncodeToString(bytes.Repeat([]byte{1}, 32))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{Home: t.TempDir(), Getenv: env(envKeyFile, path), Headers: headers{}}
	if v := open(t, c); v.Source() != "env_file" {
		t.Errorf("source %s", v.Source())
	}
	open(t, c)
	if runtime.GOOS != "windows" {
		_ = os.Chmod(path, 0o640)
		refused(t, c, "chmod 600")
		_ = os.Chmod(path, 0o600)
	}
	_ = os.Remove(path)
	refused(t, c, "gone")
	c.Getenv = env()
	refused(t, c, envKeyFile)
}

func TestKeyringSource(t *testing.T) {
	r := &ring{entries: map[string]string{}}
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: r}
	if v := open(t, c); v.Source() != "keyring" || len(r.entries) != 1 {
		t.Fatalf("source %s, %d entries", v.Source(), len(r.entries))
	}
	if _, err := os.Stat(filepath.Join(c.Home, KeyFile)); err == nil {
		t.Error("the key is in a file as well")
	}
	other := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: r}
	open(t, other)
	if len(r.entries) != 2 {
		t.Error("two homes share an entry")
	}
	open(t, c)
	c.Keyring = nil
	refused(t, c, "keyring")
	c.Keyring = &ring{entries: map[string]string{}}
	refused(t, c, "no such entry")
	c.Keyring = &ring{err: errors.New("locked")}
	refused(t, c, "does not answer", "unlock")
}

// TestUnusableKeyring: a vault that is made where the keyring does not work has
// its key in the file.
func TestUnusableKeyring(t *testing.T) {
	for name, r := range map[string]*ring{
		"refuses": {err: errors.New("no bus")},
		"forgets": {entries: map[string]string{}, forgets: true},
	} {
		c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: r}
		if v := open(t, c); v.Source() != "file" {
			t.Errorf("a keyring that %s: source %s", name, v.Source())
		}
	}
	r := &ring{entries: map[string]string{}}
	c := Config{Home: t.TempDir(), Getenv: env(envKeyring, "off"), Headers: headers{}, Keyring: r}
	if v := open(t, c); v.Source() != "file" || len(r.entries) != 0 {
		t.Errorf("with %s=off: source %s", envKeyring, v.Source())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := ProbeKeyring(ctx, &ring{hangs: true}); err == nil {
		t.Error("a hanging keyring is called reachable")
	}
	if err := ProbeKeyring(context.Background(), &ring{entries: map[string]string{}}); err != nil {
		t.Errorf("a keyring without our entry: %v", err)
	}
}

// TestSealedStaysInPlace: no ciphertext opens elsewhere, changed or cut.
func TestSealedStaysInPlace(t *testing.T) {
	v := open(t, Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}})
	sealed, err := v.Seal(place, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	again, _ := v.Seal(place, []byte("secret"))
	if bytes.Equal(sealed, again) || bytes.Contains(sealed, []byte("secret")) {
		t.Error("sealing is not randomised, or not sealing")
	}
	for name, change := range map[string]func(b *authsome.Binding){
		"kind":     func(b *authsome.Binding) { b.Kind = "login" },
		"vault":    func(b *authsome.Binding) { b.Vault = "other" },
		"user":     func(b *authsome.Binding) { b.User = "other" },
		"provider": func(b *authsome.Binding) { b.Provider = "gitlab" },
		"name":     func(b *authsome.Binding) { b.Name = "personal" },
		"version":  func(b *authsome.Binding) { b.Version = 2 },
		// The same letters, cut elsewhere.
		"boundary": func(b *authsome.Binding) { b.Provider, b.Name = "githubw", "ork" },
	} {
		b := place
		change(&b)
		if _, err := v.Unseal(b, sealed); err == nil {
			t.Errorf("it opens under another %s", name)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := v.Unseal(place, bad); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
		if _, err := v.Unseal(place, sealed[:i]); err == nil {
			t.Errorf("it opens cut to %d bytes", i)
		}
	}
}

// FuzzUnseal: what was sealed opens in its own place as it was, and nowhere else,
// nor changed by a bit, cut or lengthened; what was not sealed never opens.
func FuzzUnseal(f *testing.F) {
	v, err := Open(context.Background(), Config{Home: f.TempDir(), Getenv: env(envKey, hex.EncodeToString(make([]byte, 32))), Headers: headers{}})
	if err != nil {
		f.Fatal(err)
	}
	for i, data := range []string{"", "\x01", "\x01\x00\x00", "secret", `{"v":1,"fields":{}}`, strings.Repeat("\x01", 29)} {
		f.Add([]byte(data), "connection", "github", "work", int64(1), "connection", "github", "work", int64(i), uint32(i*7))
		// The same letters, cut elsewhere.
		f.Add([]byte(data), "connection", "github", "work", int64(1), "connection", "githubw", "ork", int64(1), uint32(1<<31|i))
		f.Add([]byte(data), "data-key", "", "env", int64(1), "connection", "", "env", int64(1), uint32(8*i))
	}
	f.Fuzz(func(t *testing.T, data []byte, kind, provider, name string, version int64, kind2, provider2, name2 string, version2 int64, at uint32) {
		here := authsome.Binding{Kind: kind, Vault: authsome.LocalVault, User: authsome.LocalUser, Provider: provider, Name: name, Version: version}
		there := here
		there.Kind, there.Provider, there.Name, there.Version = kind2, provider2, name2, version2
		if _, err := v.Unseal(here, data); err == nil {
			t.Fatalf("what was never sealed opens: %x", data)
		}
		sealed, err := v.Seal(here, data)
		if err != nil || len(data) > 3 && bytes.Contains(sealed, data) {
			t.Fatalf("sealed %q as %x, %v", data, sealed, err)
		}
		if plain, err := v.Unseal(here, sealed); err != nil || !bytes.Equal(plain, data) {
			t.Fatalf("%q came back as %q, %v", data, plain, err)
		}
		if _, err := v.Unseal(there, sealed); (err == nil) != (here == there) {
			t.Fatalf("sealed for %+v, in %+v it opens with %v", here, there, err)
		}
		changed := bytes.Clone(sealed)
		changed[int(at/8)%len(sealed)] ^= 1 << (at % 8)
		for what, bad := range map[string][]byte{
			"with a bit changed": changed, "cut": sealed[:int(at)%len(sealed)], "without its beginning": sealed[1+int(at)%len(sealed):], "longer": append(bytes.Clone(sealed), data...), "with a byte more": append(bytes.Clone(sealed), byte(at)),
		} {
			plain, err := v.Unseal(here, bad)
			if err == nil && !bytes.Equal(bad, sealed) {
				t.Fatalf("it opens %s as %q", what, plain)
			}
			if err != nil && (plain != nil || authsome.CodeOf(err) != authsome.VaultFailed || len(data) > 7 && strings.Contains(err.Error(), string(data)) && !strings.Contains(kind+provider+name, string(data))) {
				t.Fatalf("%s: %q, %v", what, plain, err)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	h := headers{}
	c := Config{Home: f.TempDir(), Getenv: env(envKey, hex.EncodeToString(make([]byte, 32))), Headers: h}
	if _, err := Open(context.Background(), c); err != nil {
		f.Fatal(err)
	}
	good := h[authsome.LocalVault]
	f.Add(good)
	f.Add([]byte(`{"v":1,"source":"file"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := c
		c.Home = t.TempDir()
		c.Headers = headers{authsome.LocalVault: data}
		if len(data) == 0 {
			return
		}
		v, err := Open(context.Background(), c)
		if err == nil && v.Source() != "env" {
			t.Fatalf("opened with source %q", v.Source())
		}
		if _, err := os.Stat(filepath.Join(c.Home, KeyFile)); err == nil {
			t.Fatal("a damaged header made a new key")
		}
	})
}
