package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestRun_PutBlob_fileOfAnother asserts that a daemon cannot have another user's file written, and
// that the blob is sent then.
func TestRun_PutBlob_fileOfAnother(t *testing.T) {
	content := strings.Repeat("x", 2<<20)
	desc := ocispec.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := other + ".link"
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	me := uint32(os.Geteuid())
	for name, tc := range map[string]struct {
		path  string
		owner uint32
	}{
		"owned by another": {other, me + 1},
		"through a link":   {link, me},
		"not there":        {other + ".none", me},
		"a directory":      {filepath.Dir(other), me},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewUnix("socket")
			c.files = &files{owner: tc.owner}
			asked, sent := 0, 0
			c.http.Transport = transport(func(r *http.Request) (*http.Response, error) {
				answer := ""
				if r.Method == http.MethodPost {
					asked++
					answer = fmt.Sprintf(`{"file":%q}`, tc.path)
				}
				body, err := io.ReadAll(r.Body)
				if r.Method == http.MethodPut {
					sent += len(body)
				}
				r.Body.Close()
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, err
			})
			run := &Run{client: c, id: "run"}
			for range 2 {
				if err := run.PutBlob(t.Context(), "a", desc, strings.NewReader(content)); err != nil {
					t.Fatal(err)
				}
			}
			if asked != 1 || sent != 2*len(content) {
				t.Errorf("a file was asked for %d times, and %d bytes were sent", asked, sent)
			}
		})
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "as it was" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

func TestFileWriter_sizes(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		want    error
	}{"whole": {"four", nil}, "longer": {"five5", errLonger}, "shorter": {"two", io.ErrUnexpectedEOF}} {
		t.Run(name, func(t *testing.T) {
			file, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			w := &fileWriter{desc: ocispec.Descriptor{Digest: digest.FromString("four"), Size: 4}, file: file}
			if err := w.copy(t.Context(), strings.NewReader(tc.content)); !errors.Is(err, tc.want) {
				t.Errorf("the error is %v, want %v", err, tc.want)
			}
		})
	}
}
