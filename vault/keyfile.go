package vault

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/authsome/authsome"
)

// KeyFile is the name of the master key's file in the home, 0600.
const KeyFile = "master.key"

// keyDraft is a KeyFile that has not got its name yet, or has it already.
const keyDraft = KeyFile + ".new"

// keyFile is the form of KeyFile.
type keyFile struct {
	Version int       `json:"version"` // keyFileVersion
	Key     string    `json:"key"`     // Base64
	Created time.Time `json:"created_at"`
	Note    string    `json:"note"`
}

const keyFileVersion = 1

// maxKeyFile bounds what is read as a key's file.
const maxKeyFile = 4 << 10

// makeKeyFile writes a new key. The file is complete and on the disk before it
// gets its name, and takes the name of no other: a crash leaves it or nothing.
func makeKeyFile(path string) ([]byte, error) {
	key := newKey()
	data, err := json.MarshalIndent(keyFile{
		Version: keyFileVersion, Key: base64.StdEncoding.EncodeToString(key), Created: time.Now().UTC().Truncate(time.Second),
		Note: "The master key of authsome's vault. Without it the vault cannot be opened; whoever has both can read it.",
	}, "", "  ")
	if err != nil {
		return nil, authsome.E(authsome.Internal, "make the master key: %w", err)
	}
	defer clear(data)
	if err := install(path, append(data, '\n')); err != nil {
		clear(key)
		return nil, authsome.E(authsome.VaultFailed, "make the master key %s: %w", path, cause(err)).
			WithHint("make room in that directory and make it writable, or set AUTHSOME_HOME to another, or %s to a key", envKey)
	}
	return key, nil
}

// install makes a file that must not exist.
func install(path string, data []byte) error {
	draft := filepath.Join(filepath.Dir(path), keyDraft)
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(draft) }()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	// A link fails where there is a file, a rename replaces it. Some file
	// systems have no links; there, only the home's owner makes keys in it.
	err = os.Link(draft, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		if _, lerr := os.Lstat(path); errors.Is(lerr, fs.ErrNotExist) {
			err = os.Rename(draft, path)
		}
	}
	if err != nil || runtime.GOOS == "windows" { // which has no way to sync a directory
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

// readKeyFile reads a key's file, which must be closed to others.
func readKeyFile(path string) ([]byte, error) {
	fail := func(format string, args ...any) *authsome.Error {
		return authsome.E(authsome.VaultFailed, "open the vault: its master key is in the file "+path+", which "+format, args...)
	}
	// Looked at first: opening a pipe would wait for its other end.
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail("is gone").WithHint("bring the file back from a copy; without it the vault cannot be opened. Nothing was changed")
	}
	if err == nil && !fi.Mode().IsRegular() {
		return nil, fail("is no regular file").WithHint("put the key in a file of its own, mode 0600")
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if err == nil {
		defer func() { _ = f.Close() }()
		fi, err = f.Stat()
	}
	if err != nil {
		return nil, fail("cannot be read: %w", cause(err)).WithHint("let the user that runs the daemon read it")
	}
	// On Windows the mode does not tell; there the access list of the person's
	// profile keeps others out.
	if runtime.GOOS != "windows" && fi.Mode().Perm()&0o077 != 0 {
		return nil, fail("others may read (mode %04o)", fi.Mode().Perm()).WithHint("chmod 600 '%s'", path)
	}
	data := make([]byte, maxKeyFile+1)
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fail("cannot be read: %w", cause(err))
	}
	if n > maxKeyFile {
		return nil, fail("is too long for a key's").WithHint("put the key in a file of its own, mode 0600")
	}
	return data[:n], nil
}

// cause leaves out the path that an error of the file system repeats.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}
