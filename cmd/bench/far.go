package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	coldRate  = 50e6                  // bytes a second that all connections to the upstream have together
	coldBurst = 1 << 20               // bytes; more than one Read gives
	coldTrip  = 40 * time.Millisecond // from a request to its answer
)

// A slowLink hands on requests to a registry and its answers, all of them together at coldRate.
type slowLink struct {
	http     *http.Server
	client   *http.Client // one that is at this end of the link
	listener net.Listener
	ended    errgroup.Group
	rate     *rate.Limiter // of bytes
	sent     atomic.Int64  // bytes of bodies
}

func openSlowLink(at *site, to *server) (*slowLink, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &slowLink{listener: listener, rate: rate.NewLimiter(coldRate, coldBurst), client: &http.Client{Transport: &http.Transport{}}}
	target := &url.URL{Scheme: "https", Host: hostname}
	over := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.SetBasicAuth(user, password)
		},
		ModifyResponse: func(r *http.Response) error {
			r.Body = &slowBody{ReadCloser: r.Body, ctx: r.Request.Context(), link: l}
			return nil
		},
		Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&tls.Dialer{Config: at.clientTLS("http/1.1")}).DialContext(ctx, "tcp", to.addr)
		}},
		FlushInterval: -1,
	}
	l.http = &http.Server{ReadHeaderTimeout: 15 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(coldTrip)
		over.ServeHTTP(w, r)
	})}
	l.ended.Go(func() error { return l.http.Serve(listener) })
	return l, nil
}

func (l *slowLink) url() string { return "http://" + l.listener.Addr().String() }

func (l *slowLink) close() error {
	l.client.CloseIdleConnections()
	err := errors.Join(l.http.Close(), l.ended.Wait())
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

type slowBody struct {
	io.ReadCloser
	ctx  context.Context
	link *slowLink
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if waited := b.link.rate.WaitN(b.ctx, n); waited != nil {
		return n, waited
	}
	b.link.sent.Add(int64(n))
	return n, err // as it is: io.EOF is compared
}

// direct pulls an image over the link, as the clients of a registry pull it there.
func (l *slowLink) direct(ctx context.Context, tag string, i image) (time.Duration, error) {
	began := time.Now()
	if _, err := l.get(ctx, "manifests/"+tag, int64(len(i.manifest))); err != nil {
		return 0, err
	}
	for _, blob := range i.blobs {
		if _, err := l.get(ctx, blobPath(blob), int64(len(blob))); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func blobPath(blob []byte) string { return "blobs/" + digest.FromBytes(blob).String() }

// get reads an answer, and returns after how long the first byte of its body came.
func (l *slowLink) get(ctx context.Context, path string, length int64) (first time.Duration, err error) {
	began := time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url()+"/v2/"+coldRepo+"/"+path, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Accept", acceptManifests+", */*")
	resp, err := l.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		return 0, err
	}
	first = time.Since(began)
	n, err := io.Copy(io.Discard, resp.Body)
	if n++; err == nil && (resp.StatusCode != http.StatusOK || n != length) {
		err = fmt.Errorf("the link answered %s with %d bytes of %d", resp.Status, n, length)
	}
	return first, err
}
