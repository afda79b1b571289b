package launch

import (
	"io"
	"io/fs"
	"os"
)

func openNonblocking(path string) (*os.File, error) { return os.Open(path) }

// The cache directory lies in the user's profile, whose access list keeps
// others out.
func ownDir(fs.FileInfo) bool      { return true }
func privateFile(fs.FileInfo) bool { return true }

// lockShared keeps a file open in the directory: Windows removes nothing that
// is open, so a bundle in use outlives every sweep.
func lockShared(dir string) (io.Closer, error) {
	f, err := os.CreateTemp(dir, ".use-*")
	if err != nil {
		return nil, err
	}
	return useFile{f}, nil
}

// useFile is removed when the run is over.
type useFile struct{ *os.File }

func (u useFile) Close() error {
	err := u.File.Close()
	_ = os.Remove(u.Name())
	return err
}

// lockAlone reports false while any file says that a run is there.
func lockAlone(dir string) (io.Closer, bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, false
	}
	for _, e := range entries {
		if len(e.Name()) > 5 && e.Name()[:5] == ".use-" && os.Remove(dir+`\`+e.Name()) != nil {
			return nil, false
		}
	}
	return io.NopCloser(nil), true
}
