package config_test

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
)

// An upstream that is added and removed again leaves the text as it was, also one written by hand.
func TestAddUpstream_andRemoveIt(t *testing.T) {
	u := config.Upstream{Prefix: "a/b", URL: "https://h:5000/x", Mode: config.ModeCache, Freshness: config.DefaultFreshness, Deny: []string{"x/*"}}
	for name, text := range map[string]string{
		"as install writes it": string(config.Sample()),
		"a comment behind":     least + "upstreams: [] # none yet\nport: 443\n",
		"a list":               least + "upstreams:\n# the first\n- prefix: q\n  url: https://q # q\n# after it\nport: 443\n",
		"a deep list":          least + "upstreams:\n      - {prefix: q, url: 'https://q'}\n      - hosts:\n        - r.io\n        - s.io\n\nport: 443 # as before\n",
		"hosts":                least + "upstreams:\n  - hosts: [r.io, s.io]\n",
	} {
		t.Run(name, func(t *testing.T) {
			before, err := config.Parse("c", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			added, err := config.AddUpstream("c", []byte(text), u)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse("c", added)
			if err != nil || len(c.Upstreams) != len(before.Upstreams)+1 || c.Upstreams[len(before.Upstreams)].URL != u.URL || c.Port != before.Port {
				t.Fatalf("%v in\n%s", err, added)
			}
			if strings.Count(string(added), "#") != strings.Count(text, "#") {
				t.Errorf("a comment is lost:\n%s", added)
			}
			back, err := config.RemoveUpstream("c", added, "a/b")
			if err != nil || string(back) != text {
				t.Errorf("%v\n%s", err, back)
			}
		})
	}
	t.Run("without the key", func(t *testing.T) {
		added, err := config.AddUpstream("c", []byte(least), u)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := config.Parse("c", added); err != nil || len(c.Upstreams) != 1 {
			t.Errorf("%v in\n%s", err, added)
		}
	})
}

func TestAddUpstream_refused(t *testing.T) {
	u := config.Upstream{Prefix: "a", URL: "https://h", Freshness: config.DefaultFreshness}
	quay := config.Upstream{Hosts: []string{"quay.io"}, Freshness: config.DefaultFreshness}
	for name, test := range map[string]struct {
		text string
		do   func(text []byte) ([]byte, error)
		want string
	}{
		"taken":          {least + "upstreams:\n- {prefix: a, url: 'https://b'}\n", func(text []byte) ([]byte, error) { return config.AddUpstream("c", text, u) }, "c has an upstream a already"},
		"taken by hosts": {least + "upstreams:\n- {hosts: [quay.io], mode: 'off'}\n", func(text []byte) ([]byte, error) { return config.AddUpstream("c", text, quay) }, "c has an upstream quay.io already"},
		"one of hosts":   {least + "upstreams:\n- {hosts: [quay.io, a.io]}\n", func(text []byte) ([]byte, error) { return config.AddUpstream("c", text, quay) }, "quay.io is one of several hosts of an upstream in c already"},
		"invalid": {least, func(text []byte) ([]byte, error) {
			return config.AddUpstream("c", text, config.Upstream{Prefix: "A", URL: "https://b", Freshness: config.DefaultFreshness})
		}, `"A" is not a path`},
		"in brackets": {least + "upstreams: [{prefix: b, url: 'https://b'}]\n", func(text []byte) ([]byte, error) { return config.AddUpstream("c", text, u) }, "in braces or brackets"},
		"not there":   {least, func(text []byte) ([]byte, error) { return config.RemoveUpstream("c", text, "a") }, "c has no upstream a"},
		"one of several hosts": {least + "upstreams:\n- hosts: [a.io, b.io]\n", func(text []byte) ([]byte, error) { return config.RemoveUpstream("c", text, "a.io") },
			"one of several hosts"},
		"a file that is wrong": {"port: x\n", func(text []byte) ([]byte, error) { return config.AddUpstream("c", text, u) }, "c:1: port"},
	} {
		if text, err := test.do([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) || hint.Of(err) == "" {
			t.Errorf("%s: %v (hint %q)\n%s", name, err, hint.Of(err), text)
		}
	}
}
