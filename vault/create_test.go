package vault

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/store"
)

// childEnv makes this binary a process that makes a vault and is killed, and
// says when.
const childEnv = "AUTHSOME_VAULT_TEST_CHILD"

func TestMain(m *testing.M) {
	if when := os.Getenv(childEnv); when != "" {
		if err := makeAndDie(os.Args[1], when); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func openStore(home string) (*store.Store, error) {
	return store.Open(context.Background(), store.Config{Path: filepath.Join(home, "authsome.db")})
}

// dying is a store in a process that is killed before or after a vault's header
// is stored: the two moments between which the key is there and the vault not.
type dying struct {
	*store.Store
	when string
}

func (d dying) CreateVaultHeader(ctx context.Context, id string, header []byte) error {
	if d.when == "before" {
		die()
	}
	err := d.Store.CreateVaultHeader(ctx, id, header)
	if d.when == "after" {
		die()
	}
	return err
}

func die() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	time.Sleep(time.Hour)
}

func makeAndDie(home, when string) error {
	st, err := openStore(home)
	if err != nil {
		return err
	}
	v, err := Open(context.Background(), Config{Home: home, Getenv: env(), Headers: dying{st, when}})
	if err != nil {
		return err
	}
	sealed, err := v.Seal(place, []byte("secret"))
	if err != nil {
		return err
	}
	if err := st.SaveItem(context.Background(), authsome.LocalVault, "test", "record", sealed, 1); err != nil {
		return err
	}
	fmt.Println("sealed")
	time.Sleep(time.Hour)
	return nil
}

// TestKilledMaker kills a process at each step of making a vault, and at any
// other moment. The next one finishes it, with the key that was left, and opens
// what was sealed.
func TestKilledMaker(t *testing.T) {
	moments := []string{"before", "after"}
	for range 20 {
		moments = append(moments, "later")
	}
	for i, when := range moments {
		home := t.TempDir()
		cmd := exec.Command(os.Args[0], home)
		cmd.Env = append(os.Environ(), childEnv+"="+when)
		cmd.Stderr = os.Stderr
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if when == "later" {
			time.Sleep(time.Duration(2*i)*time.Millisecond + time.Duration(rand.IntN(2000))*time.Microsecond)
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
		left, lerr := os.ReadFile(filepath.Join(home, KeyFile))
		if when != "later" && lerr != nil {
			t.Fatalf("%s the header is stored, there is no key: %v", when, lerr)
		}

		st, err := openStore(home)
		if err != nil {
			t.Fatalf("killed %s: %v", when, err)
		}
		c := Config{Home: home, Getenv: env(), Headers: st}
		v := open(t, c)
		key, err := os.ReadFile(filepath.Join(home, KeyFile))
		if err != nil || lerr == nil && string(key) != string(left) {
			t.Fatalf("killed %s: the key that was left is not used, %v", when, err)
		}
		sealed, _, err := st.Item(t.Context(), authsome.LocalVault, "test", "record")
		if err != nil || sealed == nil && strings.Contains(out.String(), "sealed") {
			t.Fatalf("killed %s: the record is lost, %v", when, err)
		}
		if sealed != nil {
			if plain, err := v.Unseal(place, sealed); err != nil || string(plain) != "secret" {
				t.Fatalf("killed %s: %q, %v", when, plain, err)
			}
		}
		open(t, c)
		if _, err := os.Stat(filepath.Join(home, KeyFile+".new")); err == nil {
			t.Errorf("killed %s: a draft of the key is left", when)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLostHeader loses the header and keeps records: no new vault is made over
// them.
func TestLostHeader(t *testing.T) {
	home := t.TempDir()
	st, err := openStore(home)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if err := st.SaveItem(t.Context(), authsome.LocalVault, "ca", "root", []byte("sealed under what is lost"), 1); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Config{Home: home, Getenv: env(), Headers: st})
	if authsome.CodeOf(err) != authsome.VaultFailed || !strings.Contains(err.Error(), "header is lost") || authsome.HintOf(err) == "" {
		t.Errorf("the error is %v", err)
	}
	if raw, err := st.VaultHeader(t.Context(), authsome.LocalVault); raw != nil || err != nil {
		t.Errorf("there is a new header %q, %v", raw, err)
	}
}

// TestBadHeaders opens headers that were changed: no new key is made, and the
// old one stays.
func TestBadHeaders(t *testing.T) {
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}}
	open(t, c)
	good := c.Headers.(headers)[authsome.LocalVault]
	change := func(f func(h map[string]any)) []byte {
		var h map[string]any
		if err := json.Unmarshal(good, &h); err != nil {
			t.Fatal(err)
		}
		f(h)
		raw, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	flip := func(field string) []byte {
		return change(func(h map[string]any) {
			b, err := base64.StdEncoding.DecodeString(h[field].(string))
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)-1] ^= 1
			h[field] = base64.StdEncoding.EncodeToString(b)
		})
	}
	for _, test := range []struct {
		raw  []byte
		said string
	}{
		{[]byte("{"), "damaged"},
		{[]byte("null"), "has the form 0"},
		{good[:len(good)/2], "damaged"},
		{change(func(h map[string]any) { h["v"] = 2 }), "has the form 2"},
		{change(func(h map[string]any) { h["source"] = "cloud" }), "does not know"},
		{change(func(h map[string]any) { h["source"] = "" }), "does not know"},
		{change(func(h map[string]any) { h["check"] = "" }), "damaged"},
		{change(func(h map[string]any) { delete(h, "wrapped_key") }), "damaged"},
		{change(func(h map[string]any) { h["wrapped_key"] = 7 }), "damaged"},
		{flip("check"), "not the one"},
		{flip("wrapped_key"), "damaged"},
	} {
		c.Headers = headers{authsome.LocalVault: test.raw}
		refused(t, c, test.said)
	}
	// Another place for the key does not open it either, though the key is the
	// same: the wrapping names its source.
	key, err := os.ReadFile(filepath.Join(c.Home, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	var f keyFile
	if err := json.Unmarshal(key, &f); err != nil {
		t.Fatal(err)
	}
	c.Headers = headers{authsome.LocalVault: change(func(h map[string]any) { h["source"] = "env" })}
	c.Getenv = env(envKey, f.Key)
	refused(t, c, "damaged")
}

// TestKeyFilesThatAreNone makes a vault where something else is in the place of
// the key: it is named, and left as it is.
func TestKeyFilesThatAreNone(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString([]byte("31 bytes that somebody put here"))
	for _, test := range []struct {
		name string
		make func(t *testing.T, path string) error
		said string
	}{
		{"directory", func(_ *testing.T, path string) error { return os.Mkdir(path, 0o700) }, "no regular file"},
		{"dangling link", func(_ *testing.T, path string) error { return os.Symlink(path+".nowhere", path) }, "is gone"},
		{"pipe", func(_ *testing.T, path string) error { return mkfifo(path) }, "no regular file"},
		{"empty", func(_ *testing.T, path string) error { return os.WriteFile(path, nil, 0o600) }, "32 bytes"},
		{"text", func(_ *testing.T, path string) error { return os.WriteFile(path, []byte(secret), 0o600) }, "32 bytes"},
		{"half a file", func(_ *testing.T, path string) error {
			return os.WriteFile(path, []byte(`{"version":1,"key":"`+secret), 0o600)
		}, "damaged"},
		{"newer", func(_ *testing.T, path string) error {
			return os.WriteFile(path, []byte(`{"version":2,"key":"`+secret+`"}`), 0o600)
		}, "of a form"},
		{"long", func(_ *testing.T, path string) error { return os.WriteFile(path, make([]byte, 5000), 0o600) }, "too long"},
		{"open to others", func(_ *testing.T, path string) error {
			if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
				return err
			}
			return os.Chmod(path, 0o604)
		}, "0604"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && (test.name == "pipe" || test.name == "open to others" || test.name == "dangling link") {
				t.Skip("Windows has none of these")
			}
			home := t.TempDir()
			path := filepath.Join(home, KeyFile)
			if err := test.make(t, path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			c := Config{Home: home, Getenv: env(), Headers: headers{}, Keyring: &ring{entries: map[string]string{}}}
			_, err = Open(t.Context(), c)
			if authsome.CodeOf(err) != authsome.VaultFailed || !strings.Contains(err.Error(), test.said) || !strings.Contains(err.Error(), path) || authsome.HintOf(err) == "" {
				t.Fatalf("the error is %v, hint %q", err, authsome.HintOf(err))
			}
			if strings.Contains(err.Error()+authsome.HintOf(err), secret) {
				t.Error("the error quotes the file")
			}
			if len(c.Headers.(headers)) != 0 {
				t.Error("a header was stored")
			}
			after, err := os.Lstat(path)
			if err != nil || after.Mode() != before.Mode() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
				t.Errorf("it was changed: %v, %v, %v", before, after, err)
			}
			if entries, err := os.ReadDir(home); err != nil || len(entries) != 1 {
				t.Errorf("the home has %v, %v", entries, err)
			}
		})
	}
}

// TestKeyFileOfAnotherHome names a vault's key file by the variable, as one
// does who moves the key to another disk.
func TestKeyFileOfAnotherHome(t *testing.T) {
	first := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}}
	open(t, first)
	c := Config{Home: t.TempDir(), Getenv: env(envKeyFile, filepath.Join(first.Home, KeyFile)), Headers: headers{}}
	if v := open(t, c); v.Source() != sourceEnvFile {
		t.Errorf("source %s", v.Source())
	}
	open(t, c)
}

// TestOrder chooses among what is there.
func TestOrder(t *testing.T) {
	key := hex.EncodeToString(newKey())
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, getenv := range map[string]func(string) string{
		sourceEnv:     env(envKey, key, envKeyFile, file),
		sourceEnvFile: env(envKeyFile, file),
		sourceKeyring: env(),
		sourceFile:    env(envKeyring, "off"),
	} {
		r := &ring{entries: map[string]string{}}
		c := Config{Home: t.TempDir(), Getenv: getenv, Headers: headers{}, Keyring: r}
		if v := open(t, c); v.Source() != want {
			t.Errorf("source %s, want %s", v.Source(), want)
		}
		if _, err := os.Stat(filepath.Join(c.Home, KeyFile)); (err == nil) != (want == sourceFile) {
			t.Errorf("%s: the key's file: %v", want, err)
		}
		if (len(r.entries) == 1) != (want == sourceKeyring) {
			t.Errorf("%s: the keyring has %d entries", want, len(r.entries))
		}
	}
	// A variable that is set and useless is an error, and no reason to take the
	// next place.
	for _, getenv := range []func(string) string{env(envKey, "useless"), env(envKeyFile, file+".gone")} {
		c := Config{Home: t.TempDir(), Getenv: getenv, Headers: headers{}, Keyring: &ring{entries: map[string]string{}}}
		refused(t, c)
		if entries, err := os.ReadDir(c.Home); err != nil || len(entries) != 0 || len(c.Keyring.(*ring).entries) != 0 {
			t.Errorf("it made %v, %v", entries, err)
		}
	}
}

// TestKeyringKeyWithoutVault: making the vault was cut short after the key was
// in the keyring. The entry is used again.
func TestKeyringKeyWithoutVault(t *testing.T) {
	r := &ring{entries: map[string]string{}}
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: failing{}, Keyring: r}
	if _, err := Open(t.Context(), c); err == nil {
		t.Fatal("the header was not stored, and the vault is open")
	}
	var before string
	for _, v := range r.entries {
		before = v
	}
	c.Headers = headers{}
	open(t, c)
	for _, v := range r.entries {
		if v != before || len(r.entries) != 1 {
			t.Error("the key that was left is not used")
		}
	}
	// An entry that is no key is not ours to overwrite.
	for k := range r.entries {
		r.entries[k] = "somebody's password"
	}
	c.Home, c.Headers = t.TempDir(), headers{}
	r.entries = map[string]string{keyringService + "/" + keyringUser(c.Home): "somebody's password"}
	if v := open(t, c); v.Source() != sourceFile || r.entries[keyringService+"/"+keyringUser(c.Home)] != "somebody's password" {
		t.Errorf("source %s, entries %v", v.Source(), len(r.entries))
	}
}

// failing stores no header.
type failing struct{}

func (failing) VaultHeader(context.Context, string) ([]byte, error) { return nil, nil }
func (failing) CreateVaultHeader(context.Context, string, []byte) error {
	return errors.New("the disk is full")
}

// TestMovedHome moves a home whose key is in the keyring.
func TestMovedHome(t *testing.T) {
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: &ring{entries: map[string]string{}}}
	sealed, err := open(t, c).Seal(place, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	c.Home = t.TempDir()
	if plain, err := open(t, c).Unseal(place, sealed); err != nil || string(plain) != "secret" {
		t.Errorf("%q, %v", plain, err)
	}
}

// slow is a keyring whose calls take a while each; with nobody to unlock it, for
// ever.
type slow struct {
	*ring
	each time.Duration
	end  chan struct{}
}

func (s slow) wait() {
	if s.each > 0 {
		time.Sleep(s.each)
		return
	}
	<-s.end
}

func (s slow) Get(service, user string) (string, error) { s.wait(); return s.ring.Get(service, user) }

func (s slow) Set(service, user, pw string) error { s.wait(); return s.ring.Set(service, user, pw) }

// TestKeyringThatHangs bounds what a keyring may take: a new vault has its key
// elsewhere then, and an old one says what the matter is.
func TestKeyringThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := slow{ring: &ring{entries: map[string]string{}}, end: make(chan struct{})}
		defer close(hanging.end)
		took := func() func() time.Duration {
			began := time.Now()
			return func() time.Duration { return time.Since(began) }
		}
		c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: hanging}
		time1 := took()
		if v := open(t, c); v.Source() != sourceFile || time1() > keyringPatience {
			t.Errorf("source %s after %v", v.Source(), time1())
		}
		time2 := took()
		open(t, c)
		if time2() != 0 {
			t.Errorf("a vault with its key in a file waits %v for the keyring", time2())
		}

		// Three calls of two seconds are too many.
		c = Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: slow{ring: &ring{entries: map[string]string{}}, each: 2 * time.Second}}
		time3 := took()
		if v := open(t, c); v.Source() != sourceFile || time3() > keyringPatience {
			t.Errorf("source %s after %v", v.Source(), time3())
		}

		good := &ring{entries: map[string]string{}}
		c = Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: slow{ring: good, each: time.Second}}
		if v := open(t, c); v.Source() != sourceKeyring {
			t.Errorf("source %s with a keyring that answers", v.Source())
		}
		c.Keyring = hanging
		time4 := took()
		refused(t, c, "does not answer", "unlock", keyringUser(c.Home))
		if time4() > keyringPatience {
			t.Errorf("opening waits %v", time4())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Open(ctx, c); authsome.CodeOf(err) != authsome.VaultFailed {
			t.Errorf("a caller that is gone: %v", err)
		}
		time5 := took()
		if err := ProbeKeyring(t.Context(), hanging); err == nil || time5() > probePatience {
			t.Errorf("the probe says %v after %v", err, time5())
		}
	})
}

// TestUnsealErrors names the record and what to do.
func TestUnsealErrors(t *testing.T) {
	v := open(t, Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}})
	_, err := v.Unseal(place, []byte{formatVersion})
	var e *authsome.Error
	if !errors.As(err, &e) || e.Code != authsome.VaultFailed || e.Provider != "github" || e.Message != "open the sealed connection github (work): it is cut short" ||
		!strings.Contains(e.Hint, "authsome login github --connection work --force") {
		t.Errorf("%+v", err)
	}
	sealed, err := v.Seal(place, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	sealed[0]++
	if _, err := v.Unseal(place, sealed); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("%v", err)
	}
	if _, err := v.Unseal(authsome.Binding{Kind: "ca", Name: "root"}, sealed[:20]); err == nil || err.Error() != "open the sealed ca (root): it is cut short" {
		t.Errorf("%v", err)
	}
}

// TestAssociated looks for two places that look alike.
func TestAssociated(t *testing.T) {
	seen := map[string]authsome.Binding{}
	texts := []string{"", "a", "aa", "\x00", "\x00\x00\x00\x00\x00\x00\x00\x01", "\x01a"}
	for _, kind := range texts {
		for _, user := range texts {
			for _, provider := range texts {
				for _, name := range texts {
					for _, version := range []int64{0, 1, -1, 256} {
						b := authsome.Binding{Kind: kind, Vault: "local", User: user, Provider: provider, Name: name, Version: version}
						key := string(associated(b))
						if other, ok := seen[key]; ok {
							t.Fatalf("%+v looks like %+v", b, other)
						}
						seen[key] = b
					}
				}
			}
		}
	}
}
