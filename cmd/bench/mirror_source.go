package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A source is a registry over plain HTTP that programs mirror from. Its blobs are files, so that they come from the page
// cache and this process stays small.
type source struct {
	dir      string
	http     *http.Server
	listener net.Listener
	ended    errgroup.Group

	mu        sync.Mutex    // guards the rest
	delay     time.Duration // of each answer: a round trip
	manifests map[string][]byte
	names     []string // repositories
	bytes     int64    // of all blobs
	asked     int      // requests for blobs
}

var ofSource = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs)/([^/]+)$`)

func openBenchSource(at *site) (*source, error) {
	dir := at.path("source")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &source{dir: dir, listener: l, manifests: map[string][]byte{}}
	s.http = &http.Server{ReadHeaderTimeout: 15 * time.Second, Handler: s}
	s.ended.Go(func() error { return s.http.Serve(l) })
	return s, nil
}

func (s *source) close() error {
	err := errors.Join(s.http.Close(), s.ended.Wait())
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// fill adds images of one layer, and forgets those that were there.
func (s *source) fill(ctx context.Context, images, size int) error {
	if err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.dir, 0o700)); err != nil {
		return err
	}
	s.mu.Lock()
	s.manifests, s.names, s.bytes = map[string][]byte{}, nil, 0
	s.mu.Unlock()
	for n := range images {
		if err := ctx.Err(); err != nil {
			return err
		}
		i, err := newImage(fmt.Sprintf("mirror/%d/%d", size, n), 1, size)
		if err != nil {
			return err
		}
		if err := s.add(fmt.Sprintf("bench/image%05d", n), i); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) add(repo string, i image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, blob := range i.blobs {
		if err := os.WriteFile(path.Join(s.dir, digest.FromBytes(blob).Encoded()), blob, 0o600); err != nil {
			return err
		}
		s.bytes += int64(len(blob))
	}
	s.names = append(s.names, repo)
	s.manifests[repo+"@v1"] = i.manifest
	s.manifests[repo+"@"+i.digest.String()] = i.manifest
	return nil
}

// imageSet is the configuration of a mirror of everything.
func (s *source) imageSet() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text strings.Builder
	text.WriteString("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n")
	for _, repo := range s.names {
		fmt.Fprintf(&text, "  - name: %s/%s:v1\n", s.listener.Addr(), repo)
	}
	return text.String()
}

// slow makes each answer take so long.
func (s *source) slow(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = delay
}

// blobsAsked returns how many blobs were asked for since it was called last.
func (s *source) blobsAsked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.asked
	s.asked = 0
	return n
}

func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := ofSource.FindStringSubmatch(r.URL.Path)
	s.mu.Lock()
	delay := s.delay
	var manifest []byte
	if m != nil && m[2] == "manifests" {
		manifest = s.manifests[m[1]+"@"+m[3]]
	} else if m != nil {
		s.asked++
	}
	s.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case strings.TrimSuffix(r.URL.Path, "/") == "/v2":
		w.WriteHeader(http.StatusOK)
	case manifest != nil:
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(manifest).String())
		w.Header().Set("Content-Length", fmt.Sprint(len(manifest)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(manifest)
		}
	case m != nil && m[2] == "blobs":
		s.blob(w, r, m[3])
	default:
		http.NotFound(w, r)
	}
}

func (s *source) blob(w http.ResponseWriter, r *http.Request, d string) {
	f, err := os.Open(path.Join(s.dir, path.Base(strings.TrimPrefix(d, "sha256:"))))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d)
	http.ServeContent(w, r, "", time.Time{}, f)
}

// fetch opens a blob, by the path of its file, over HTTP.
func (s *source) fetch(file string) (io.ReadCloser, error) {
	resp, err := http.Get(fmt.Sprintf("http://%s/v2/bench/blobs/sha256:%s", s.listener.Addr(), path.Base(file)))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("fetch %s: %s", file, resp.Status)
	}
	return resp.Body, nil
}
