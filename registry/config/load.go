package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// Parse decodes data. name is the file in errors. An error is about the first problem, with file,
// line and key, and has a hint.
func Parse(name string, data []byte) (*Config, error) {
	c, problems := parse(data)
	if len(problems) == 0 {
		return c, nil
	}
	return nil, problemError(name, problems[0])
}

// Problems returns all that Parse would reject, in the order of the file.
func Problems(name string, data []byte) (all []error) {
	_, problems := parse(data)
	for _, p := range problems {
		all = append(all, problemError(name, p))
	}
	return all
}

func problemError(name string, p yamlkeys.Problem) error {
	if p.Line > 0 {
		name += ":" + strconv.Itoa(p.Line)
	}
	return hint.New(fmt.Errorf("%s: %s", name, p.Text()), p.Hint)
}

// parse decodes data, and returns its problems.
func parse(data []byte) (*Config, []yamlkeys.Problem) {
	var d yamlkeys.Decoder
	c := minimal()
	if root := d.Document(data, "write one with 'appliance install', or begin with 'hostname: registry.example.com'"); root != nil {
		d.Mapping(root, "", c.keys())
	}
	c.Hostname = strings.ToLower(c.Hostname)
	if c.Listen == "" {
		c.Listen = listenOn(c.Port)
	}
	c.besideSocket()
	if len(d.Problems) == 0 {
		if key, bad := c.together(); bad != nil {
			d.Fail(d.Lines[key], key, bad.Error(), hint.Of(bad))
		}
	}
	if len(d.Problems) > 0 {
		return nil, d.Problems
	}
	return c, nil
}

// patterns are patterns over repository names, each checked at its own line.
type patterns []string

// DecodeNode decodes a list of patterns.
func (p *patterns) DecodeNode(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	d.Sequence(n, path, "write it like [one, two]", func(n *yaml.Node, path string) {
		var s string
		d.Value(n, path, yamlkeys.Key{Value: &s, Required: true, Check: func() error { return image.CheckPattern(s) }})
		*p = append(*p, s)
	})
}

// syncs are mappings with defaults of their own.
type syncs []Sync

// DecodeNode decodes a list of image sets.
func (all *syncs) DecodeNode(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	d.Sequence(n, path, "begin each image set with '- imageSet: …'", func(n *yaml.Node, path string) {
		s := Sync{Interval: defaultSync}
		d.Mapping(n, path, s.keys())
		*all = append(*all, s)
	})
}

// UnmarshalText parses a size such as 10GiB.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := humanize.ParseBytes(string(text))
	// humanize ignores a comma: 1,5GiB is not 15GiB.
	if err != nil || strings.Contains(string(text), ",") || v > math.MaxInt64 {
		return complaint("a number of bytes", "write it like 500MiB, 10GiB or 0")
	}
	*s = Size(v)
	return nil
}
