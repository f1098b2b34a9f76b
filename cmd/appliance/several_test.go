//go:build several

package main_test

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// together is daemons with one database and one bucket, behind a balancer that gives each request to
// another of them.
type together struct {
	*faulty // whose requests go to the balancer
	daemons []*faulty
	address string // of the balancer
	storage string
	key     []byte
	rows    *postgrestest.Server
	server  string              // address of the database
	proxy   *postgrestest.Proxy // before it
	bucket  *s3test.Server

	next atomic.Int64
	sent []atomic.Int64 // requests to each
	down atomic.Int64   // one plus the number of the daemon that gets no request
}

// newTogether starts daemons, as hosts with the files of docs/several.md have them.
func newTogether(t *testing.T, daemons int) *together {
	t.Helper()
	server, err := postgrestest.Start(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	_, database, err := server.Database(t.Context(), "")
	must(t, err)
	proxy, err := server.Proxy()
	must(t, err)
	t.Cleanup(func() { must(t, proxy.Close()) })
	database = proxy.Address(database)
	bucket := s3test.Start(t)
	storage, _ := bucket.Address(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f := &together{storage: storage, rows: server, server: database, proxy: proxy, bucket: bucket, address: l.Addr().String(), sent: make([]atomic.Int64, daemons)}
	key := make([]byte, 32)
	rand.Read(key) //nolint:errcheck // it never fails
	f.key = append(base64.StdEncoding.AppendEncode(nil, key), '\n')
	for range daemons {
		d := f.host(t, true)
		if f.daemons = append(f.daemons, d); len(f.daemons) == 1 {
			d.begin(t)
		} else {
			d.start(t)
		}
	}
	f.balance(t, l)
	return f
}

// host prepares another host. One with the key gets the certificates from the store, where the first has put its own.
func (f *together) host(t *testing.T, shared bool) *faulty {
	t.Helper()
	d := newFaulty(t, "")
	if len(f.daemons) > 0 {
		for _, path := range []string{d.cfg.TLS.CA, d.cfg.TLS.CAKey, d.cfg.TLS.Certificate, d.cfg.TLS.Key} {
			must(t, os.Remove(path))
		}
		d.http = f.daemons[0].client(t, d.socket.Name())
	}
	_, port, err := net.SplitHostPort(f.address)
	must(t, err)
	d.cfg.Port, err = net.LookupPort("tcp", port)
	must(t, err)
	d.cfg.Storage, d.cfg.StorageCredentials, d.cfg.Database = f.storage, f.bucket.Credentials, f.server
	if shared {
		d.cfg.SharedKey = filepath.Join(d.root, "shared-key")
		must(t, os.WriteFile(d.cfg.SharedKey, f.key, 0o600))
	}
	text, err := d.cfg.Marshal()
	must(t, err)
	must(t, os.WriteFile(config.Path(d.root), text, 0o644))
	return d
}

// balance starts the balancer.
func (f *together) balance(t *testing.T, l net.Listener) {
	t.Helper()
	first := f.daemons[0]
	pair, err := tls.LoadX509KeyPair(first.cfg.TLS.Certificate, first.cfg.TLS.Key)
	must(t, err)
	backs := make([]*httputil.ReverseProxy, len(f.daemons))
	for i, d := range f.daemons {
		backs[i] = &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "https", Host: "localhost"})
				r.Out.Host = r.In.Host
			},
			Transport: d.client(t, d.socket.Name()).Transport, ErrorLog: log.New(io.Discard, "", 0),
		}
	}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := int(f.next.Add(1)) % len(backs)
		if int(f.down.Load()) == i+1 {
			i = (i + 1) % len(backs)
		}
		f.sent[i].Add(1)
		backs[i].ServeHTTP(w, r)
	}))
	must(t, front.Listener.Close())
	front.Listener = l
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	front.StartTLS()
	t.Cleanup(front.Close)
	f.faulty = &faulty{program: first.program, root: first.root, cfg: first.cfg, admin: first.admin, http: first.client(t, f.address)}
	t.Cleanup(f.http.CloseIdleConnections)
}
