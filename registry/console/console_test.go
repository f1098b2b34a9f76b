package console

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOwnPath(t *testing.T) {
	for next, want := range map[string]string{
		"/users?a=b": "/users?a=b", "": "/", "users": "/", "//evil.test/x": "/", "https://evil.test": "/", "/\\evil.test": "/",
		"/\tevil": "/", "javascript:alert(1)": "/", "/%2f%2fevil.test": "/%2f%2fevil.test", "///evil.test": "/",
	} {
		if got := ownPath(next); got != want {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}

func TestEvent(t *testing.T) {
	if got := string(event([]byte("<p>\r\ndata: x\n</p>"))); got != "data: <p>\ndata: data: x\ndata: </p>\n\n" {
		t.Errorf("got %q", got)
	}
}

// Every text that a template or the code names is there, and every text is named.
func TestTexts(t *testing.T) {
	all, err := readTexts("en")
	if err != nil {
		t.Fatal(err)
	}
	source := ""
	for _, files := range []fs.FS{templates, sources(t)} {
		err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.HasSuffix(name, "_test.go") {
				var data []byte
				data, err = fs.ReadFile(files, name)
				source += string(data)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	quoted := regexp.MustCompile(`"([a-z]+(?:[.-][a-z]+)+)"`)
	named := map[string]bool{}
	for _, m := range quoted.FindAllStringSubmatch(source, -1) {
		named[m[1]] = true
	}
	uses := regexp.MustCompile(`\{\{[^}]*?\b[tn] "([^"]+)"`)
	for _, m := range uses.FindAllStringSubmatch(source, -1) {
		_, one := all[m[1]+".one"]
		_, many := all[m[1]+".many"]
		if _, ok := all[m[1]]; !ok && !(one && many) {
			t.Errorf("a template uses the text %s, which there is not", m[1])
		}
	}
	computed := regexp.MustCompile(`printf "([a-z.-]+)\.%s"`)
	var prefixes []string
	for _, m := range computed.FindAllStringSubmatch(source, -1) {
		prefixes = append(prefixes, m[1]+".")
	}
	for key := range all {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(key, ".hint"), ".one"), ".many")
		if !named[base] && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
			t.Errorf("nothing uses the text %s", key)
		}
	}
}

// Each place of the navigation has a text and a page.
func TestPlaces(t *testing.T) {
	c, err := New(Options{API: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places() {
		if _, err := c.views.mustText("nav." + p.Name); err != nil {
			t.Error(err)
		}
		if _, pattern := c.routes.Handler(httptest.NewRequest("GET", p.Path, nil)); pattern == "/" {
			t.Errorf("there is no page %s", p.Path)
		}
	}
}

func TestFiles(t *testing.T) {
	f, err := openStatic()
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, encoding string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept-Encoding", encoding)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		return w
	}
	packed, plain := get(f.base+"console.css", "gzip, br"), get(f.base+"console.css", "")
	if packed.Header().Get("Content-Encoding") != "gzip" || packed.Body.Len() > plain.Body.Len()/4 || plain.Header().Get("Content-Encoding") != "" {
		t.Errorf("%d bytes compressed (%v), %d plain", packed.Body.Len(), packed.Header(), plain.Body.Len())
	}
	for name, kind := range map[string]string{"console.css": "text/css", "console.js": "text/javascript", "theme.js": "text/javascript",
		"favicon.svg": "image/svg+xml", "RedHatTextVF.woff2": "font/woff2", "LICENSES.txt": "text/plain"} {
		if w := get(f.base+name, ""); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	for _, path := range []string{f.base, f.base + "none", "/static/0123/console.css", f.base + "../console.go"} {
		if w := get(path, ""); w.Code != 404 {
			t.Errorf("%s is answered with %d", path, w.Code)
		}
	}
}
