package config

import (
	"time"
)

// key is one line of a table: what config.yaml calls it, where its value goes, and what it must
// look like. Decoding and marshalling walk the same tables, so neither can forget a key.
type key struct {
	name     string
	value    any // *string, *int, *time.Duration, *bool, *Size, *patterns, *[]Upstream, or []key of a nested mapping
	required bool
	check    func() *complaint // looks at the decoded value; nil if anything goes
}

// patterns are texts that are patterns over repository names, each checked where it stands.
type patterns []string

// complaint is what is wrong with a value and what to do; the decoder adds where.
type complaint struct{ problem, hint string }

func (c *Config) keys() []key {
	server := c.Address()
	return []key{
		{"hostname", &c.Hostname, true, func() *complaint { return hostname(c.Hostname) }},
		{"port", &c.Port, false, func() *complaint { return port(c.Port) }},
		{"listen", &c.Listen, false, func() *complaint { return listenAddress(c.Listen) }},
		{"storage", &c.Storage, true, absolute(&c.Storage)},
		{"database", &c.Database, true, absolute(&c.Database)},
		{"controlSocket", &c.ControlSocket, true, func() *complaint { return socketPath(&c.ControlSocket) }},
		{"tls", c.TLS.keys(), true, nil},
		{"upstreams", &c.Upstreams, false, nil},
		{"gc", c.GC.keys(), false, nil},
		{"anonymousPull", (*patterns)(&c.AnonymousPull), false, nil},
		{"openMetrics", &c.OpenMetrics, false, nil},
		{"minFree", &c.MinFree, false, nil},
		{"pullQuota", &c.PullQuota, false, nil},
		{"scrub", c.Scrub.keys(), false, nil},
		{"deleteReferrers", &c.DeleteReferrers, false, nil},
		{serverHostname, &server, false, nil}, // written, and not read
	}
}

// serverHostname is the key that scripts around mirror-registry look for.
const serverHostname = "SERVER_HOSTNAME"

func (t *TLS) keys() []key {
	return []key{
		{"certificate", &t.Certificate, true, absolute(&t.Certificate)},
		{"key", &t.Key, true, absolute(&t.Key)},
		{"ca", &t.CA, false, optional(&t.CA)},
		{"caKey", &t.CAKey, false, optional(&t.CAKey)},
		{"state", &t.State, false, optional(&t.State)},
	}
}

func (u *Upstream) keys() []key {
	return []key{
		{"prefix", &u.Prefix, true, func() *complaint { return prefix(u.Prefix) }},
		{"url", &u.URL, true, func() *complaint { return upstreamURL(u.URL) }},
		{"ca", &u.CA, false, optional(&u.CA)},
		{"authFile", &u.AuthFile, false, optional(&u.AuthFile)},
		{"freshness", &u.Freshness, false, atLeast(&u.Freshness, 0, "")},
	}
}

func (s *Scrub) keys() []key {
	return []key{
		{"interval", &s.Interval, false, func() *complaint { return interval(s.Interval) }},
		{"rate", &s.Rate, false, func() *complaint { return scrubRate(s.Rate) }},
	}
}

func (g *GC) keys() []key {
	return []key{
		{"interval", &g.Interval, false, func() *complaint { return interval(g.Interval) }},
		{"gracePeriod", &g.GracePeriod, false, atLeast(&g.GracePeriod, time.Minute,
			"a push that is under way has blobs that no manifest names yet")},
	}
}
