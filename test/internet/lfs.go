package internet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// lfs answers Git LFS's batch API for one repository, and keeps its objects in a
// directory beside the repository. Who comes here has shown a credential, or
// only wants to read what is public.
func (r *repositories) lfs(w http.ResponseWriter, q *http.Request, name, tail string) {
	dir := filepath.Join(r.dir, name+".lfs")
	id := strings.TrimPrefix(tail, "objects/")
	switch {
	case tail == "objects/batch" && q.Method == http.MethodPost:
		var in struct {
			Operation string `json:"operation"`
			Objects   []struct {
				OID  string `json:"oid"`
				Size int64  `json:"size"`
			} `json:"objects"`
		}
		if err := json.NewDecoder(io.LimitReader(q.Body, 1<<20)).Decode(&in); err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		objects := []any{}
		for _, o := range in.Objects {
			object := map[string]any{"oid": o.OID, "size": o.Size}
			_, err := os.Stat(filepath.Join(dir, filepath.Base(o.OID)))
			switch href := map[string]any{"href": "https://github.com/" + name + ".git/info/lfs/objects/" + o.OID}; {
			case in.Operation == "upload" && err != nil:
				object["actions"] = map[string]any{"upload": href}
			case in.Operation == "download" && err == nil:
				object["actions"] = map[string]any{"download": href}
			case in.Operation == "download":
				object["error"] = map[string]any{"code": 404, "message": "there is no such object"}
			}
			objects = append(objects, object)
		}
		w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
		_ = json.NewEncoder(w).Encode(map[string]any{"transfer": "basic", "objects": objects})
	case len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "":
		http.NotFound(w, q)
	case q.Method == http.MethodGet:
		http.ServeFile(w, q, filepath.Join(dir, id))
	case q.Method == http.MethodPut:
		if err := os.MkdirAll(dir, 0o700); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		f, err := os.CreateTemp(dir, ".upload-*")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer func() { _ = os.Remove(f.Name()) }()
		h := sha256.New()
		_, err = io.Copy(io.MultiWriter(f, h), q.Body)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil || hex.EncodeToString(h.Sum(nil)) != id {
			http.Error(w, "the object is not what it is called", http.StatusUnprocessableEntity)
			return
		}
		if err := os.Rename(f.Name(), filepath.Join(dir, id)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}
