package config

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// Marshal writes the configuration as sample.yaml with its values in place of the sample's, so
// that the file explains itself. The same configuration always gives the same bytes.
func (c *Config) Marshal() ([]byte, error) {
	out, err := c.write()
	if err != nil {
		return nil, err
	}
	// Nothing may be written that the daemon then refuses or takes for something else.
	back, err := Parse("config.yaml", out)
	if err != nil {
		return nil, err
	}
	if again, err := back.write(); err != nil || !bytes.Equal(again, out) {
		return nil, fmt.Errorf("config.yaml for %q does not read back as it was written: %w", c.Hostname, err)
	}
	return out, nil
}

func (c *Config) write() ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(sample, &doc); err != nil {
		return nil, fmt.Errorf("parse the embedded sample: %w", err)
	}
	lines := strings.Split(string(sample), "\n")
	if err := fill(lines, doc.Content[0], c.keys()); err != nil {
		return nil, err
	}
	return []byte(strings.Join(lines, "\n")), nil
}

// fill replaces the value of each key in its line. Every value of the sample ends its line.
func fill(lines []string, n *yaml.Node, keys []yamlkeys.Key) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := keys[slices.IndexFunc(keys, func(k yamlkeys.Key) bool { return k.Name == n.Content[i].Value })]
		value := n.Content[i+1]
		if nested, ok := k.Value.([]yamlkeys.Key); ok {
			if err := fill(lines, value, nested); err != nil {
				return err
			}
			continue
		}
		text, err := render(k.Value)
		if err != nil {
			return fmt.Errorf("write %s: %w", k.Name, err)
		}
		at := value.Line - 1
		lines[at] = strings.TrimRight(lines[at][:value.Column-1]+text, " ")
	}
	return nil
}

func render(v any) (string, error) {
	switch v := v.(type) {
	case *string:
		return scalar(*v)
	case *int:
		return strconv.Itoa(*v), nil
	case *time.Duration:
		return short(*v), nil
	case *bool:
		return strconv.FormatBool(*v), nil
	case *Size:
		return v.String(), nil
	case *patterns:
		return inline(*v)
	case *hosts:
		return inline(*v)
	case *platforms:
		return inline(*v)
	case *upstreams:
		return list(*v, (*Upstream).keys)
	case *syncs:
		return list(*v, (*Sync).keys)
	case *catalogs:
		return list(*v, (*Catalog).keys)
	case *packages:
		return v.flow()
	case *Date:
		return string(*v), nil
	}
	return "", fmt.Errorf("no way to write a %T", v)
}

// String writes 10GiB, in the largest unit that loses nothing.
func (s Size) String() string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if one := Size(1) << (10 * (4 - i)); s != 0 && s%one == 0 {
			return strconv.FormatInt(int64(s/one), 10) + unit
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// inline writes texts as [one, two].
func inline(all []string) (string, error) {
	n := yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range all {
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s})
	}
	out, err := yaml.Marshal(&n)
	return strings.TrimSuffix(string(out), "\n"), err
}

// list writes mappings below their key, leaving out what is empty.
func list[T any](all []T, keys func(*T) []yamlkeys.Key) (string, error) {
	if len(all) == 0 {
		return "[]", nil
	}
	var b strings.Builder
	for _, one := range all {
		lead := "\n  - "
		for _, k := range keys(&one) {
			if empty(k.Value) {
				continue
			}
			text, err := render(k.Value)
			if err != nil {
				return "", err
			}
			b.WriteString(lead + k.Name + ": " + text)
			lead = "\n    "
		}
	}
	return b.String(), nil
}

// empty reports whether the value of a key is that of one which is left out.
func empty(v any) bool {
	switch v := v.(type) {
	case *string:
		return *v == ""
	case *bool:
		return !*v
	case *packages:
		return len(*v) == 0
	case *patterns:
		return len(*v) == 0
	case *hosts:
		return len(*v) == 0
	case *platforms:
		return len(*v) == 0
	case *int:
		return *v == 0
	case *Size:
		return *v == 0
	case *Date:
		return *v == ""
	}
	return false
}

// scalar puts s on one line, in quotes where YAML wants them.
func scalar(s string) (string, error) {
	n := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.ContainsAny(s, "\n\r") {
		n.Style = yaml.DoubleQuotedStyle
	}
	out, err := yaml.Marshal(&n)
	return strings.TrimSuffix(string(out), "\n"), err
}

// short writes 24h, not 24h0m0s.
func short(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
