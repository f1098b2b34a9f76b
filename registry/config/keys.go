package config

import (
	"cmp"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// The tables serve decoding and marshalling, so neither can forget a key.

func (c *Config) keys() []yamlkeys.Key {
	server, database := c.Address(), cmp.Or(c.server, c.Database)
	return []yamlkeys.Key{
		{Name: "hostname", Value: &c.Hostname, Required: true, Check: func() error { return hostname(c.Hostname) }},
		{Name: "port", Value: &c.Port, Check: func() error { return port(c.Port) }},
		{Name: "listen", Value: &c.Listen, Check: func() error { return listenAddress(c.Listen) }},
		{Name: "storage", Value: &c.Storage, Required: true, Check: func() error { return storage(&c.Storage) }},
		{Name: "storageCredentials", Value: &c.StorageCredentials, Check: optional(&c.StorageCredentials)},
		{Name: "storageRedirect", Value: &c.StorageRedirect},
		{Name: "database", Value: &database, Required: true, Check: func() error { return c.setDatabase(database) }},
		{Name: "sharedKey", Value: &c.SharedKey, Check: optional(&c.SharedKey)},
		{Name: "controlSocket", Value: &c.ControlSocket, Required: true,
			Check: func() error { return socketPath(&c.ControlSocket) }},
		{Name: "tls", Value: c.TLS.keys(), Required: true},
		{Name: "upstreams", Value: (*upstreams)(&c.Upstreams)},
		{Name: "gc", Value: c.GC.keys()},
		{Name: "anonymousPull", Value: (*patterns)(&c.AnonymousPull)},
		{Name: "openMetrics", Value: &c.OpenMetrics},
		{Name: "minFree", Value: &c.MinFree},
		{Name: "pullQuota", Value: &c.PullQuota},
		{Name: "scrub", Value: c.Scrub.keys()},
		{Name: "sync", Value: (*syncs)(&c.Sync)},
		{Name: "catalogs", Value: (*catalogs)(&c.Catalogs)},
		{Name: "updates", Value: c.Updates.keys()},
		{Name: "serveHeldDigests", Value: &c.ServeHeldDigests},
		{Name: "deleteReferrers", Value: &c.DeleteReferrers},
		{Name: serverHostname, Value: &server}, // written for scripts, and ignored
	}
}

// serverHostname is the key that scripts around mirror-registry look for.
const serverHostname = "SERVER_HOSTNAME"

func (t *TLS) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "certificate", Value: &t.Certificate, Required: true, Check: absolute(&t.Certificate)},
		{Name: "key", Value: &t.Key, Required: true, Check: absolute(&t.Key)},
		{Name: "ca", Value: &t.CA, Check: optional(&t.CA)},
		{Name: "caKey", Value: &t.CAKey, Check: optional(&t.CAKey)},
		{Name: "state", Value: &t.State, Check: optional(&t.State)},
		{Name: "acme", Value: t.ACME.keys()},
	}
}

func (a *ACME) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "directory", Value: &a.Directory, Check: func() error { return acmeDirectory(a.Directory) }},
		{Name: "ca", Value: &a.CA, Check: optional(&a.CA)},
		{Name: "email", Value: &a.Email},
		{Name: "keyID", Value: &a.KeyID},
		{Name: "keyFile", Value: &a.KeyFile, Check: optional(&a.KeyFile)},
	}
}

func (u *Upstream) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "prefix", Value: &u.Prefix, Check: func() error { return optionalPrefix(u.Prefix) }},
		{Name: "url", Value: &u.URL, Check: func() error { return upstreamURL(u.URL) }},
		{Name: "hosts", Value: (*hosts)(&u.Hosts)},
		{Name: "ca", Value: &u.CA, Check: optional(&u.CA)},
		{Name: "certDir", Value: &u.CertDir, Check: optional(&u.CertDir)},
		{Name: "authFile", Value: &u.AuthFile, Check: optional(&u.AuthFile)},
		{Name: "proxy", Value: &u.Proxy, Check: func() error { return proxyURL(u.Proxy) }},
		{Name: "freshness", Value: &u.Freshness, Check: atLeast(&u.Freshness, 0, "")},
		{Name: "mode", Value: (*string)(&u.Mode), Check: u.Mode.check},
		{Name: "concurrency", Value: &u.Concurrency, Check: func() error { return concurrency(u.Concurrency) }},
		{Name: "rate", Value: &u.Rate},
		{Name: "allow", Value: (*patterns)(&u.Allow)},
		{Name: "deny", Value: (*patterns)(&u.Deny)},
		{Name: "platforms", Value: (*platforms)(&u.Platforms)},
	}
}

func (s *Sync) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "imageSet", Value: &s.ImageSet, Required: true, Check: absolute(&s.ImageSet)},
		{Name: "workspace", Value: &s.Workspace, Required: true, Check: absolute(&s.Workspace)},
		{Name: "interval", Value: &s.Interval, Check: atLeast(&s.Interval, time.Minute, "mirroring would never cease")},
		{Name: "authFile", Value: &s.AuthFile, Check: optional(&s.AuthFile)},
		{Name: "prefix", Value: &s.Prefix, Check: func() error { return optionalPrefix(s.Prefix) }},
	}
}

func (u *Updates) keys() []yamlkeys.Key {
	return []yamlkeys.Key{{Name: "payloads", Value: &u.Payloads, Check: u.check}}
}

func (u *Updates) check() error {
	if u.Payloads != PayloadsUpstream && u.Payloads != PayloadsMirror {
		return complaint(fmt.Sprintf("%q is not one of the names that releases have", u.Payloads), "write "+PayloadsUpstream+" or "+PayloadsMirror)
	}
	return nil
}

func (s *Scrub) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "interval", Value: &s.Interval, Check: func() error { return interval(s.Interval) }},
		{Name: "rate", Value: &s.Rate, Check: func() error { return scrubRate(s.Rate) }},
	}
}

func (g *GC) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "interval", Value: &g.Interval, Check: func() error { return interval(g.Interval) }},
		{Name: "gracePeriod", Value: &g.GracePeriod, Check: atLeast(&g.GracePeriod, time.Minute,
			"a push that is under way has blobs that no manifest names yet")},
	}
}
