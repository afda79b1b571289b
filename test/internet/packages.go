package internet

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
)

// PackagesHost keeps one package, hello, for each of pip, npm, cargo and Go, and
// wants Credentials.Packages as a bearer token for everything.
const PackagesHost = "packages.example.com"

func (n *Internet) packages() http.Handler {
	wheel := archive(map[string]string{
		"hello.py":                      "",
		"hello-1.0.dist-info/METADATA":  "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n",
		"hello-1.0.dist-info/WHEEL":     "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"hello-1.0.dist-info/RECORD":    "",
		"hello-1.0.dist-info/top_level": "hello\n",
	})
	module := archive(map[string]string{"example.com/hello@v1.0.0/go.mod": "module example.com/hello\n"})
	sum := sha256.Sum256(module)
	files := map[string]string{
		"/simple/hello/":                       `<a href="/files/hello-1.0-py3-none-any.whl">hello-1.0-py3-none-any.whl</a>`,
		"/files/hello-1.0-py3-none-any.whl":    string(wheel),
		"/npm/hello":                           `{"name":"hello","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"hello","version":"1.0.0","dist":{"tarball":"https://` + PackagesHost + `/npm/hello.tgz"}}}}`,
		"/crates/config.json":                  `{"dl":"https://` + PackagesHost + `/files"}`,
		"/crates/he/ll/hello":                  fmt.Sprintf(`{"name":"hello","vers":"1.0.0","deps":[],"cksum":%q,"features":{},"yanked":false}`+"\n", hex.EncodeToString(sum[:])),
		"/go/example.com/hello/@v/v1.0.0.info": `{"Version":"v1.0.0"}`,
		"/go/example.com/hello/@v/v1.0.0.mod":  "module example.com/hello\n",
		"/go/example.com/hello/@v/v1.0.0.zip":  string(module),
		"/v2/":                                 `{}`,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !bearer(r, n.cred.Packages) {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		file, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/simple/"):
			w.Header().Set("Content-Type", "text/html")
		case strings.HasPrefix(r.URL.Path, "/npm/"):
			w.Header().Set("Content-Type", "application/json")
		default:
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		_, _ = w.Write([]byte(file))
	})
}

// archive makes a zip in memory, which cannot fail.
func archive(files map[string]string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		if f, err := z.Create(name); err == nil {
			_, _ = f.Write([]byte(text))
		}
	}
	_ = z.Close()
	return b.Bytes()
}
