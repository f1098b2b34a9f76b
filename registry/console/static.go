package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// staticPath is the prefix of the files of static, each below the digest of all: browsers keep them, and
// a new version has other paths.
const staticPath = "/static/"

//go:embed static
var static embed.FS

// files serves what pages load.
type files struct {
	base string // staticPath and the digest, with a slash
	all  map[string]*file
}

// file is one of them, compressed when it is asked for first.
type file struct {
	plain  []byte
	kind   string
	packed func() []byte // nil: it does not get smaller
}

func openStatic() (*files, error) {
	fs2, err := fs.Sub(static, "static")
	if err != nil {
		return nil, err
	}
	f := &files{all: map[string]*file{}}
	sum := sha256.New()
	err = fs.WalkDir(fs2, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fs2, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(data))
		sum.Write(data)
		f.all[name] = newFile(name, data)
		return nil
	})
	f.base = staticPath + hex.EncodeToString(sum.Sum(nil)[:8]) + "/"
	return f, err
}

func newFile(name string, data []byte) *file {
	f := &file{plain: data, kind: mime.TypeByExtension(path.Ext(name))}
	if path.Ext(name) == ".woff2" {
		f.kind = "font/woff2"
		return f
	}
	f.packed = sync.OnceValue(func() []byte {
		var out bytes.Buffer
		z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // of a level that there is
		_, _ = z.Write(data)                                    // into memory
		_ = z.Close()
		return out.Bytes()
	})
	return f
}

// ServeHTTP implements http.Handler.
func (f *files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, f.base)
	file := f.all[name]
	if !ok || file == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	content := file.plain
	if file.packed != nil {
		h.Set("Vary", "Accept-Encoding")
		if r.Header.Get("Range") == "" && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			content = file.packed()
		}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}
