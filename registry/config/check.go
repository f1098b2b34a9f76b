package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/s3url"
)

func hostname(h string) error {
	err := image.CheckHostname(h)
	if err == nil {
		return nil
	}
	do := "use the DNS name by which clusters reach this host, such as registry.example.com"
	if host, p, ok := strings.Cut(h, ":"); ok && image.CheckHostname(host) == nil {
		do = fmt.Sprintf("write the host alone, 'hostname: %s', and 'port: %s' on a line of its own", host, p)
	}
	return complaint(err.Error(), do)
}

func port(p int) error {
	if p < 1 || p > 65535 {
		return complaint(fmt.Sprintf("%d is not a port", p), "use a number from 1 to 65535, such as 8443")
	}
	return nil
}

func listenAddress(a string) error {
	const do = `write ":8443" for all addresses, or "192.0.2.1:8443" for one`
	host, p, err := net.SplitHostPort(a)
	if err != nil {
		return complaint(fmt.Sprintf("%q is not an address with a port", a), do)
	}
	if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 65535 {
		return complaint(fmt.Sprintf("%q has no valid port", a), do)
	}
	if strings.ContainsAny(host, " /@") {
		return complaint(fmt.Sprintf("%q is not an address with a port", a), do)
	}
	return nil
}

// absolute also writes the path in the one way that others can be compared with, and that a unit
// takes.
func absolute(p *string) func() error {
	return func() error {
		if !filepath.IsAbs(*p) {
			return complaint(fmt.Sprintf("%q is not an absolute path", *p), "write the whole path, beginning with /")
		}
		*p = filepath.Clean(*p)
		return nil
	}
}

// storage is a directory or an address of S3.
func storage(p *string) error {
	if !s3url.Is(*p) {
		return absolute(p)()
	}
	if _, err := s3url.Parse(*p); err != nil {
		return complaint("the address of S3 is wrong: "+err.Error(), "write s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=REGION")
	}
	return nil
}

// Redirect returns the storage to which clients are redirected for blobs, nil for none.
func (c *Config) Redirect() (*s3url.Address, error) {
	if !c.StorageRedirect {
		return nil, nil
	}
	a, err := s3url.Parse(c.Storage)
	return &a, err
}

// checkRedirect refuses redirects that no client can follow, or that show what is private.
func (c *Config) checkRedirect() (string, error) {
	const key = "storageRedirect"
	to, err := c.Redirect()
	switch {
	case err != nil:
		return key, complaint("only blobs in S3 have an address that clients can be redirected to", "leave it out, or name a bucket in `storage:`")
	case to == nil:
	case to.Endpoint.Scheme != "https":
		return key, complaint("the endpoint in `storage:` has no TLS: images and signed addresses would be readable on the network",
			"write endpoint=https://… in `storage:`, or leave storageRedirect out")
	case to.Shares(c.Hostname):
		return key, complaint(fmt.Sprintf("the endpoint %s in `storage:` is %s or a name below it: clients would send their login for the registry to the storage, which refuses it",
			to.Endpoint.Hostname(), c.Hostname), "give the endpoint a name of its own, or leave storageRedirect out")
	}
	return "", nil
}

// optional is a path that may be empty.
func optional(p *string) func() error {
	return func() error {
		if *p == "" {
			return nil
		}
		return absolute(p)()
	}
}

// socketPath also knows that the kernel has room for 107 bytes (sun_path in unix(7)); its own
// message for a longer one is "invalid argument".
func socketPath(p *string) error {
	if c := absolute(p)(); c != nil {
		return c
	}
	if len(*p) > 107 {
		return complaint(fmt.Sprintf("the path of a unix socket has at most 107 bytes, this one has %d", len(*p)),
			"put it into a shorter directory, such as /run/appliance")
	}
	return nil
}

func acmeDirectory(s string) error {
	if s == "" {
		return nil
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "https" || u.Host == "" {
		return complaint(fmt.Sprintf("%q is not the URL of an ACME directory", s),
			"write it with https://, such as https://ca.example.com/acme/acme/directory")
	}
	return nil
}

func prefix(p string) error {
	if !image.ValidRepository(p) {
		return complaint(fmt.Sprintf("%q is not a path of repository names", p),
			"use lower-case letters, digits and . _ - between slashes, such as quay.io or mirrors/docker.io")
	}
	return nil
}

func optionalPrefix(p string) error {
	if p == "" {
		return nil
	}
	return prefix(p)
}

func atLeast(d *time.Duration, least time.Duration, why string) func() error {
	return func() error {
		switch {
		case *d >= least:
			return nil
		case least == 0:
			return complaint(fmt.Sprintf("%s is negative", short(*d)), "use a duration such as 5m or 24h")
		}
		return complaint(fmt.Sprintf("%s is too short: %s", short(*d), why), "use at least "+short(least))
	}
}

func scrubRate(s Size) error {
	if s < 64<<10 {
		return complaint("with so few bytes a second it would never end",
			"use at least 64KiB, or turn it off with interval: 0")
	}
	return nil
}

func interval(d time.Duration) error {
	if d == 0 {
		return nil
	}
	return atLeast(&d, time.Minute, "collecting would never cease")()
}

// together checks what no single key can tell. It names the key to change.
func (c *Config) together() (string, error) {
	switch t := c.TLS; {
	case t.CAKey != "" && t.CA == "":
		return "tls.ca", complaint("missing, though caKey is given",
			"name the CA's certificate, or leave out caKey to bring your own certificate")
	case t.CAKey != "" && t.State == "":
		return "tls.state", complaint("missing, though caKey is given",
			"name a directory in which issued certificates are kept")
	case t.ACME.Directory != "" && t.CAKey == "":
		return "tls.acme.directory", complaint("given without caKey",
			"name the appliance's CA in ca and caKey: it signs until the ACME server has, and for localhost")
	case t.ACME.Directory == "" && t.ACME != (ACME{}):
		return "tls.acme.directory", complaint("missing, though another key of acme is given",
			"name the directory of the ACME server, or take the others out")
	case (t.ACME.KeyID == "") != (t.ACME.KeyFile == ""):
		return "tls.acme.keyFile", complaint("keyID and keyFile go together",
			"give both, as the ACME server's administrator has them for an external account binding, or neither")
	}
	for _, check := range []func() (string, error){c.checkShared, c.checkRedirect, c.checkUpstreams} {
		if key, err := check(); err != nil {
			return key, err
		}
	}
	for i, s := range c.Sync {
		for _, other := range c.Sync[:i] {
			if s.Workspace == other.Workspace {
				return fmt.Sprintf("sync[%d].workspace", i),
					complaint(fmt.Sprintf("%q is that of %s too", s.Workspace, other.ImageSet),
						"give each image set a workspace of its own: it remembers what was mirrored")
			}
			if s.ImageSet == other.ImageSet {
				return fmt.Sprintf("sync[%d].imageSet",
					i), complaint(fmt.Sprintf("%q is listed twice", s.ImageSet), "list each image set once")
			}
		}
	}
	return c.checkCatalogs()
}

func complaint(what, do string) error { return hint.New(errors.New(what), do) }
