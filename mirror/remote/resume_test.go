package remote_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/remote"
)

// breaking is content that ends with an error at a byte, and counts what is read of it.
type breaking struct {
	*bytes.Reader
	at, read int
}

var errLine = errors.New("the line is dead")

func (b *breaking) Read(p []byte) (int, error) {
	if left := b.at - int(b.Size()) + b.Len(); b.at > 0 {
		if left <= 0 {
			return 0, errLine
		}
		p = p[:min(len(p), left)]
	}
	n, err := b.Reader.Read(p)
	b.read += n
	return n, err
}

const large, half = 12 << 20, 6 << 20

// halfSent leaves an upload of a large blob that broke off in the middle.
func halfSent(t *testing.T, s *server) ([]byte, ocispec.Descriptor) {
	t.Helper()
	data, desc := blob(strings.Repeat("half of it, or so", large/16)[:large])
	begun := &breaking{Reader: bytes.NewReader(data), at: half}
	if err := open(t, s).PutBlob(t.Context(), "a/b", desc, begun); !errors.Is(err, errLine) || strings.Contains(err.Error(), "?") {
		t.Fatalf("the error is %v", err)
	}
	return data, desc
}

// kept returns the files of uploads that broke off.
func kept(t *testing.T, s *server) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.sessions, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestRun_PutBlob_continuesAnUpload(t *testing.T) {
	for _, tc := range []struct {
		name      string
		meanwhile func(t *testing.T, s *server)
		read      int // at most
		begun     int // new sessions
	}{
		{"that broke off", func(*testing.T, *server) {}, large - half + 1<<20, 0},
		{"of which all has come", func(t *testing.T, s *server) {
			location := sessionOf(t, kept(t, s)[0])
			data := strings.Repeat("half of it, or so", large/16)[:large]
			from := received(t, location)
			send(t, location, data[from:])
		}, 0, 0},
		{"unless the registry has forgotten it", func(_ *testing.T, s *server) {
			s.fails(answers(http.StatusNotFound))
		}, large, 1},
		{"unless the registry does not tell how far it is", func(_ *testing.T, s *server) {
			s.fails(answers(http.StatusMethodNotAllowed))
		}, large, 1},
		{"unless the registry has more than there is", func(_ *testing.T, s *server) {
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet {
					w.Header().Set("Range", "0-99999999999")
				}
				return answers(http.StatusNoContent)(w, r)
			})
		}, large, 1},
		{"unless its file is another's", func(t *testing.T, s *server) {
			file := kept(t, s)[0]
			text, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, bytes.ReplaceAll(text, []byte("http://"+s.host), []byte("http://192.0.2.1")), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, large, 1},
		{"unless its file is torn", func(t *testing.T, s *server) {
			if err := os.Truncate(kept(t, s)[0], 20); err != nil {
				t.Fatal(err)
			}
		}, large, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := appliance(t)
			data, desc := halfSent(t, s)
			files := kept(t, s)
			if len(files) != 1 {
				t.Fatalf("kept are %v", files)
			}
			if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			tc.meanwhile(t, s)
			before := s.count(http.MethodPost, "/uploads/")
			rest := &breaking{Reader: bytes.NewReader(data)}
			r := open(t, s)
			if err := r.PutBlob(t.Context(), "a/b", desc, rest); err != nil {
				t.Fatal(err)
			}
			if rest.read > tc.read || s.count(http.MethodPost, "/uploads/")-before != tc.begun {
				t.Errorf("%d bytes are read and %d sessions begun, want %d and %d", rest.read,
					s.count(http.MethodPost, "/uploads/")-before, tc.read, tc.begun)
			}
			if has, err := hasBlob(t.Context(), open(t, s), "a/b", desc.Digest); err != nil || !has {
				t.Errorf("exists: %v, %v", has, err)
			}
			if left := kept(t, s); len(left) > 0 {
				t.Errorf("kept are %v", left)
			}
		})
	}
}

// answers answers questions for a session by a status.
func answers(status int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/uploads/") {
			return false
		}
		w.WriteHeader(status)
		return true
	}
}

// refusing answers the requests that continue an upload with a status.
func refusing(status int) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Content-Range") == "" {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		return true
	}
}

// A registry may have other bytes than were sent, or a session that cannot go on: the blob is sent
// again from its beginning, and the session is not tried once more.
func TestRun_PutBlob_beginsAgainWhereContinuingIsRefused(t *testing.T) {
	for name, refuse := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"with 416": refusing(http.StatusRequestedRangeNotSatisfiable),
		"with 413": refusing(http.StatusRequestEntityTooLarge),
		"with 500": refusing(http.StatusInternalServerError),
	} {
		t.Run(name, func(t *testing.T) {
			s := appliance(t)
			data, desc := halfSent(t, s)
			s.fails(refuse)
			r := open(t, s)
			var refused interface{ Refused() bool }
			if err := r.PutBlob(t.Context(), "a/b", desc, bytes.NewReader(data)); !errors.As(err, &refused) || refused.Refused() {
				t.Fatalf("the error is %v", err)
			}
			if err := r.PutBlob(t.Context(), "a/b", desc, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestOpen_forgetsOldUploads(t *testing.T) {
	s := appliance(t)
	halfSent(t, s)
	_, err := remote.Open(remote.Options{Registry: s.host, PlainHTTP: true, Sessions: s.sessions,
		Now: func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }})
	if left := kept(t, s); err != nil || len(left) > 0 {
		t.Errorf("kept are %v, %v", left, err)
	}
}

func TestRun_PutBlob_keepsNoUploadOfASmallBlob(t *testing.T) {
	s := appliance(t)
	data, desc := blob(strings.Repeat("x", 1<<20))
	if err := open(t, s).PutBlob(t.Context(), "a", desc, &breaking{Reader: bytes.NewReader(data), at: 1 << 19}); !errors.Is(err, errLine) {
		t.Fatalf("the error is %v", err)
	}
	if left := kept(t, s); len(left) > 0 {
		t.Errorf("kept are %v", left)
	}
}

// sessionOf returns the location in a file.
func sessionOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept struct{ Location string }
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	return kept.Location
}

// received asks how many bytes of an upload have come.
func received(t *testing.T, location string) (n int) {
	t.Helper()
	resp := request(t, http.MethodGet, location, "")
	if _, err := fmt.Sscanf(resp.Header.Get("Range"), "0-%d", &n); err != nil {
		t.Fatal(err)
	}
	return n + 1
}

// send sends the rest of an upload.
func send(t *testing.T, location, rest string) {
	t.Helper()
	resp := request(t, http.MethodGet, location, "")
	next, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if resp := request(t, http.MethodPatch, next.String(), rest); resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status)
	}
}

func request(t *testing.T, method, url, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}
