package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/config"
)

const (
	churnLayers  = 24
	churnClients = 12
	churnSteps   = 30 // of each client
)

// churning is an upstream with one image of many layers, which it sends slowly, and breaks off.
type churning struct {
	manifest []byte
	layers   [][]byte
	smooth   atomic.Bool
}

func newChurning() *churning {
	u := &churning{}
	var list []string
	for n := range churnLayers {
		layer := make([]byte, 300_000+n%3*500_000)
		_, _ = rand.NewChaCha8([32]byte{4, byte(n)}).Read(layer)
		u.layers = append(u.layers, layer)
		list = append(list, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, digest.FromBytes(layer), len(layer)))
	}
	u.manifest = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` + list[0] + `,"layers":[` + strings.Join(list, ",") + `]}`)
	return u
}

func (u *churning) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path.Base(r.URL.Path) == "v1" {
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write(u.manifest)
		return
	}
	for _, layer := range u.layers {
		if digest.FromBytes(layer).String() != path.Base(r.URL.Path) {
			continue
		}
		left := len(layer)
		if r.Method == http.MethodGet && !u.smooth.Load() && rand.IntN(3) == 0 {
			left = rand.IntN(left)
		}
		http.ServeContent(&breaking{w, left}, r, "", time.Time{}, bytes.NewReader(layer))
		return
	}
	if r.URL.Path != "/v2/" {
		http.NotFound(w, r)
	}
}

type breaking struct {
	http.ResponseWriter
	left int
}

func (w *breaking) Write(p []byte) (int, error) {
	if len(p) > w.left {
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	time.Sleep(100 * time.Microsecond)
	return w.ResponseWriter.Write(p)
}

// Clients of all users come, leave and ask for ranges, over both protocols, while the upstream breaks off
// and the link is cut. Each gets the right bytes, or fewer.
func TestPull_churn(t *testing.T) {
	u := newChurning()
	upstream := httptest.NewServer(u)
	defer upstream.Close()
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL, Concurrency: 3}}
	})
	if status, body := r.as(t, "pull", http.MethodGet, "/v2/up/image/manifests/v1"); status != http.StatusOK {
		t.Fatalf("the manifest: %d %s", status, body)
	}
	disturbed, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(disturbed)
		r.cuts(t, end)
	}()
	var whole, failed atomic.Int32
	var all sync.WaitGroup
	for n := range churnClients {
		all.Go(func() {
			v := newVisitor(r, n)
			defer v.http.CloseIdleConnections()
			for step := range churnSteps {
				switch err := v.visit(t.Context(), u.layers[min(step*churnLayers/churnSteps+rand.IntN(2), churnLayers-1)]); {
				case err == nil:
					whole.Add(1)
				case errors.Is(err, errWrong):
					t.Errorf("step %d of client %d: %v", step, n, err)
				default:
					failed.Add(1)
					time.Sleep(5 * time.Millisecond) // as clients do
				}
			}
		})
	}
	all.Wait()
	close(end)
	<-disturbed
	u.smooth.Store(true)
	t.Logf("%d clients got what they asked for, %d did not", whole.Load(), failed.Load())
	if whole.Load() < churnClients || failed.Load() < churnClients {
		t.Error("it tests nothing")
	}
	for _, layer := range u.layers {
		path := "/v2/up/image/blobs/" + digest.FromBytes(layer).String()
		if status, body := r.as(t, "pull", http.MethodGet, path); status != http.StatusOK || body != string(layer) {
			t.Errorf("once it is calm: %d, %d bytes of %d", status, len(body), len(layer))
		}
	}
}

// cuts cuts the link and restores it until end is closed.
func (r *running) cuts(t *testing.T, end <-chan struct{}) {
	set := func(cut bool) {
		if _, err := r.admin.SetOffline(t.Context(), cut); err != nil {
			t.Errorf("cut the link: %v", err)
		}
	}
	defer set(false)
	for cut := true; ; cut = !cut {
		pause := 250 * time.Millisecond
		if !cut {
			pause = 10 * time.Millisecond
		}
		select {
		case <-time.After(pause):
			set(cut)
		case <-end:
			return
		}
	}
}

// visitor is a client with connections and a user of its own.
type visitor struct {
	http *http.Client
	user string
}

func newVisitor(r *running, n int) *visitor {
	c := &tls.Config{RootCAs: r.roots, ServerName: r.cfg.Hostname}
	if n%2 == 0 {
		c.NextProtos = []string{"http/1.1"}
	}
	return &visitor{http: r.client(c), user: []string{"admin", "push", "pull"}[n%3]}
}

var errWrong = errors.New("wrong answer")

// visit asks for a blob in one of the ways of clients.
func (v *visitor) visit(ctx context.Context, layer []byte) error {
	from := rand.IntN(len(layer) - 1000)
	to := from + 1 + rand.IntN(len(layer)-from-1)
	method, ranges, leaves := http.MethodGet, "", len(layer)+1
	if rand.IntN(4) == 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(20))*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	switch rand.IntN(5) {
	case 0:
		method = http.MethodHead
	case 1:
		ranges = fmt.Sprintf("bytes=%d-%d", from, to-1)
	case 2:
		ranges = fmt.Sprintf("bytes=0-99,%d-%d", from, to-1)
	case 3:
		leaves = from
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+host+"/v2/up/image/blobs/"+digest.FromBytes(layer).String(), nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(v.user, password)
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("answered %s", resp.Status)
	}
	switch {
	case method == http.MethodHead:
		return right(nil, resp.ContentLength == int64(len(layer)))
	case strings.Contains(ranges, ","):
		return inParts(resp, layer[:100], layer[from:to])
	case ranges != "":
		body, err := io.ReadAll(resp.Body)
		return right(err, bytes.Equal(body, layer[from:to]))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(leaves)))
	return right(err, bytes.Equal(body, layer[:min(leaves, len(layer))]))
}

// inParts reads an answer with several ranges.
func inParts(resp *http.Response, want ...[]byte) error {
	_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	parts := multipart.NewReader(resp.Body, params["boundary"])
	for _, w := range want {
		part, err := parts.NextPart()
		if err != nil {
			return err
		}
		body, err := io.ReadAll(part)
		if err := right(err, bytes.Equal(body, w)); err != nil {
			return err
		}
	}
	return nil
}

func right(err error, equal bool) error {
	if err == nil && !equal {
		return errWrong
	}
	return err
}
