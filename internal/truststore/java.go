package truststore

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// machines are where Java virtual machines are installed, besides JAVA_HOME and
// the one in PATH; those that begin with ~ are below the home directory.
var machines = []string{
	"/usr/lib/jvm/*", "/opt/java/*", "/Library/Java/JavaVirtualMachines/*/Contents/Home",
	"~/.sdkman/candidates/java/*", "~/.jdks/*", "~/Library/Java/JavaVirtualMachines/*/Contents/Home",
}

// javaStore is the cacerts of a virtual machine, or of several.
//
// keytool never runs as root. It changes a copy, which is then put in place.
type javaStore struct {
	h       *Host
	keytool string
	cacerts string
	root    bool
}

// storePassword is the documented password of every cacerts (keytool(1), "The
// cacerts Certificates File"); it protects nothing.
const storePassword = "changeit"

func (h *Host) java() []Store {
	homes := []string{h.Getenv("JAVA_HOME")}
	if path, err := exec.LookPath("java"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			homes = append(homes, filepath.Dir(filepath.Dir(path)))
		}
	}
	for _, pattern := range machines {
		if rest, ok := strings.CutPrefix(pattern, "~"); ok {
			pattern = escapeGlob(h.Home) + rest
		}
		found, _ := filepath.Glob(pattern)
		homes = append(homes, found...)
	}
	var out []Store
	for _, home := range homes {
		if home == "" {
			continue
		}
		keytool := filepath.Join(home, "bin", "keytool")
		if runtime.GOOS == "windows" {
			keytool += ".exe"
		}
		for _, dir := range []string{"lib", "jre/lib"} {
			cacerts, err := filepath.EvalSymlinks(filepath.Join(home, filepath.FromSlash(dir), "security", "cacerts"))
			if err != nil || slices.ContainsFunc(out, func(s Store) bool { return s.Where == cacerts }) {
				continue
			}
			s := Store{Kind: Java, Where: cacerts, Root: !writable(cacerts)}
			if _, err := os.Stat(keytool); err != nil {
				s.Lacks = "it has no keytool in " + filepath.Dir(keytool)
			}
			s.impl = &javaStore{h, keytool, cacerts, s.Root}
			out = append(out, s)
		}
	}
	return out
}

// writable reports whether this process may write a file and replace it.
func writable(path string) bool {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// run runs keytool, in the language that aliases reads, and without the compiler
// that pays off in long-lived programs only.
func (s *javaStore) run(ctx context.Context, args ...string) ([]byte, error) {
	argv := []string{s.keytool, "-J-Duser.language=en", "-J-XX:+IgnoreUnrecognizedVMOptions", "-J-XX:TieredStopAtLevel=1"}
	return s.h.run(ctx, false, append(append(argv, args...), "-storepass", storePassword)...)
}

// aliases lists the entries of a key store whose certificate is one of certs.
func (s *javaStore) aliases(ctx context.Context, file string, certs []Certificate) (names []string, there []Certificate, err error) {
	out, err := s.run(ctx, "-list", "-rfc", "-keystore", file)
	if err != nil {
		return nil, nil, err
	}
	alias := ""
	var text strings.Builder
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, "Alias name: "); ok {
			alias = name
			text.Reset()
			continue
		}
		text.WriteString(line + "\n")
		if line != "-----END CERTIFICATE-----" {
			continue
		}
		c, err := Parse(text.String())
		if err == nil && slices.ContainsFunc(certs, func(o Certificate) bool { return bytes.Equal(o, c) }) {
			names, there = append(names, alias), append(there, c)
		}
		text.Reset()
	}
	return names, there, nil
}

func (s *javaStore) has(ctx context.Context, certs []Certificate) ([]Certificate, error) {
	_, there, err := s.aliases(ctx, s.cacerts, certs)
	return there, err
}

func (s *javaStore) add(ctx context.Context, c Certificate) error {
	return s.change(ctx, func(file string) error {
		return inFile(c.pem(), func(path string) error {
			_, err := s.run(ctx, "-importcert", "-noprompt", "-trustcacerts", "-keystore", file, "-alias", c.Name(), "-file", path)
			return err
		})
	})
}

// remove goes by what the entries hold, not by their names: on Debian the tool of
// the system's store adds what it is given here too, under a name of its own, and
// does not take it away again.
func (s *javaStore) remove(ctx context.Context, certs []Certificate) error {
	return s.change(ctx, func(file string) error {
		names, _, err := s.aliases(ctx, file, certs)
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, err := s.run(ctx, "-delete", "-keystore", file, "-alias", name); err != nil {
				return err
			}
		}
		return nil
	})
}

// change has f change a copy of the key store, and puts that in its place.
func (s *javaStore) change(ctx context.Context, f func(file string) error) error {
	data, err := os.ReadFile(s.cacerts)
	if err != nil {
		return err
	}
	return inFile(data, func(path string) error {
		if err := f(path); err != nil {
			return err
		}
		if s.root {
			_, err := s.h.run(ctx, true, program("install"), "-m", "0644", path, s.cacerts)
			return err
		}
		changed, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return replace(s.cacerts, changed)
	})
}

// replace writes a file whole, with the mode that it has; in place where its
// directory does not let it be replaced.
func replace(path string, data []byte) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".cacerts-*")
	if err != nil {
		return os.WriteFile(path, data, fi.Mode().Perm())
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), fi.Mode().Perm())
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}
