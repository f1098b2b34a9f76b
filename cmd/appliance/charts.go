package main

import (
	"net/http"
	"sync"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// documents has a client for the documents of each host, with the CAs of the run.
type documents struct {
	o *mirrorOptions

	mu      sync.Mutex // guards clients
	clients map[string]fetch.Client
}

// fetch returns the client for a host[:port].
func (d *documents) fetch(host string) (fetch.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c, ok := d.clients[host]; ok {
		return c, nil
	}
	files, err := upstream.TrustFiles(d.o.srcCertDir, host)
	if err != nil {
		return fetch.Client{}, err
	}
	config, err := upstream.TLSConfig(files, !d.o.srcVerify)
	if err != nil {
		return fetch.Client{}, err
	}
	c := fetch.Client{HTTP: fetch.NewHTTPClient(d.o.srcVerify)}
	c.HTTP.Transport.(*http.Transport).TLSClientConfig = config
	if d.clients == nil {
		d.clients = map[string]fetch.Client{}
	}
	d.clients[host] = c
	return c, nil
}

// close closes idle connections.
func (d *documents) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.clients {
		c.HTTP.CloseIdleConnections()
	}
}
