package config

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// Routes returns the upstreams with one for each of their hosts, under the prefix of its name, and
// without those of ModeOff.
func (c *Config) Routes() []Upstream {
	var all []Upstream
	for _, u := range c.Upstreams {
		switch {
		case u.Mode == ModeOff:
		case len(u.Hosts) == 0:
			all = append(all, u)
		default:
			for _, host := range u.Hosts {
				one := u
				one.Hosts, one.Prefix, one.URL = nil, host, "https://"+host
				all = append(all, one)
			}
		}
	}
	return all
}

// upstreams are mappings with defaults of their own.
type upstreams []Upstream

// DecodeNode decodes a list of upstreams.
func (us *upstreams) DecodeNode(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	d.Sequence(n, path, "begin each upstream with '- prefix: …'", func(n *yaml.Node, path string) {
		u := Upstream{Freshness: DefaultFreshness}
		d.Mapping(n, path, u.keys())
		checkKind(d, n, path)
		*us = append(*us, u)
	})
}

// checkKind checks that an upstream has a prefix and a url, or hosts.
func checkKind(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	given := func(key string) bool { _, ok := d.Lines[path+"."+key]; return ok }
	if yamlkeys.Resolve(n).Kind != yaml.MappingNode {
		return // which Mapping has reported
	}
	switch named := given("prefix") || given("url"); {
	case named && given("hosts"):
		d.Fail(n.Line, path+".hosts", "an upstream has either hosts or prefix and url", "make two entries of it")
	case !named && !given("hosts"), named && !given("prefix"):
		d.Fail(n.Line, path+".prefix", "missing", "add a line 'prefix: …', or name hosts")
	case named && !given("url"):
		d.Fail(n.Line, path+".url", "missing", "add a line 'url: …'")
	}
}

// hosts are names of registries, each checked at its own line.
type hosts []string

// DecodeNode decodes a list of hosts.
func (h *hosts) DecodeNode(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	d.Sequence(n, path, "write it like [quay.io, registry.redhat.io]", func(n *yaml.Node, path string) {
		var s string
		d.Value(n, path, yamlkeys.Key{Value: &s, Required: true, Check: func() error { return upstreamHost(s) }})
		*h = append(*h, s)
	})
}

// upstreamHost checks a host that is the prefix of its repositories, too, in which a port cannot be.
func upstreamHost(s string) error {
	if !image.ValidRepository(s) || strings.Contains(s, "/") || !strings.Contains(s, ".") {
		return complaint(fmt.Sprintf("%q is not the name of a host", s),
			"write it like quay.io; for a registry with a port or a path write an entry of its own, with prefix and url")
	}
	return upstreamURL("https://" + s)
}

// platforms are platforms of images, each checked at its own line.
type platforms []string

// DecodeNode decodes a list of platforms.
func (p *platforms) DecodeNode(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	d.Sequence(n, path, "write it like [linux/amd64, linux/arm64]", func(n *yaml.Node, path string) {
		var s string
		d.Value(n, path, yamlkeys.Key{Value: &s, Required: true, Check: func() error { return checkPlatform(s) }})
		*p = append(*p, s)
	})
}

func checkPlatform(s string) error {
	p, err := v1.ParsePlatform(s)
	if err != nil || p.OS == "" || p.Architecture == "" || s != p.String() {
		return complaint(fmt.Sprintf("%q is not a platform", s), "write it like linux/amd64 or linux/arm64/v8")
	}
	return nil
}

func (m *Mode) check() error {
	switch *m {
	case "", ModeCache, ModeMirroredOnly, ModeOff:
		return nil
	}
	return complaint(fmt.Sprintf("%q is not a mode", *m), fmt.Sprintf("write %s, %s or %s", ModeCache, ModeMirroredOnly, ModeOff))
}

// mostConcurrent bounds the requests to an upstream at a time.
const mostConcurrent = 1024

func concurrency(n int) error {
	if n < 0 || n > mostConcurrent {
		return complaint(fmt.Sprintf("%d is not from 1 to %d", n, mostConcurrent), "write how many blobs to fetch at a time, or leave it out")
	}
	return nil
}

func upstreamURL(s string) error {
	const do = "write it like https://quay.io or https://registry.example.com:5000/path"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return complaint(fmt.Sprintf("%q is not the URL of a registry", s), do)
	case u.Scheme != "https" && u.Scheme != "http":
		return complaint(fmt.Sprintf("%q begins with neither https:// nor http://", s), do)
	case u.User != nil:
		// Not quoted in the message: it may hold a password.
		return complaint("it must not hold a user name or password",
			"put the credentials into a file, as podman login does, and name it with authFile")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return complaint(fmt.Sprintf("%q must end with its path", s), do)
	}
	if p := strings.Trim(u.Path, "/"); p != "" {
		if prefix(p) != nil {
			return complaint(fmt.Sprintf("the path of %q is not a path of repository names", s), do)
		}
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || port(n) != nil {
			return complaint(fmt.Sprintf("%q has no valid port", s), do)
		}
	}
	return nil
}

func proxyURL(s string) error {
	if s == "" || s == ProxyNone {
		return nil
	}
	const do = "write it like http://proxy.example.com:3128, or none to use no proxy"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https", u.RawQuery != "", strings.Trim(u.Path, "/") != "":
		return complaint(fmt.Sprintf("%q is not the URL of a proxy", s), do)
	case u.User != nil:
		// Not quoted in the message: it may hold a password.
		return complaint("it must not hold a user name or password",
			"leave proxy out, and set HTTPS_PROXY for the service: systemctl edit, Environment=, or EnvironmentFile= for a file that only root reads")
	}
	return nil
}

// checkUpstreams checks that no two upstreams have one prefix. Of prefixes that lie in each other the
// longest counts.
func (c *Config) checkUpstreams() (string, error) {
	taken := map[string]bool{}
	for i, u := range c.Upstreams {
		key, prefixes := fmt.Sprintf("upstreams[%d].hosts", i), u.Hosts
		if len(prefixes) == 0 {
			key, prefixes = fmt.Sprintf("upstreams[%d].prefix", i), []string{u.Prefix}
		}
		for _, p := range prefixes {
			if taken[p] {
				return key, complaint(fmt.Sprintf("%q is taken by another upstream", p), "give each upstream a prefix of its own")
			}
			taken[p] = true
		}
	}
	return "", nil
}
