package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// AddUpstream returns the text of a config.yaml with one more upstream, or text if it has the same
// already. Everything else in it stays as it is written.
func AddUpstream(file string, text []byte, u Upstream) ([]byte, error) {
	c, at, err := findUpstreams(file, text)
	if err != nil {
		return nil, err
	}
	added, err := list([]Upstream{u}, (*Upstream).keys)
	if err != nil {
		return nil, err
	}
	for _, have := range c.Upstreams {
		if same, err := list([]Upstream{have}, (*Upstream).keys); err == nil && same == added {
			return text, nil
		}
	}
	if err := c.checkNew(file, u); err != nil {
		return nil, err
	}
	added = strings.TrimPrefix(added, "\n")
	lines := strings.Split(string(text), "\n")
	switch {
	case at.list == nil:
		lines = append(lines, "upstreams:", added, "")
	case len(at.list.Content) == 0:
		lines[at.key.Line-1] = strings.Replace(lines[at.key.Line-1], " []", "", 1)
		lines = slices.Insert(lines, at.key.Line, added)
	default:
		indent := strings.Repeat(" ", at.list.Column-1)
		added = indent + strings.ReplaceAll(strings.TrimPrefix(added, "  "), "\n  ", "\n"+indent)
		lines = slices.Insert(lines, lastLine(at.list), added)
	}
	c.Upstreams = append(slices.Clone(c.Upstreams), u)
	return edited(file, lines, c)
}

// checkNew returns an error if there is an upstream with the prefix of a new one.
func (c *Config) checkNew(file string, u Upstream) error {
	for _, prefix := range append(u.Hosts, u.Prefix) {
		for _, other := range c.Upstreams {
			switch {
			case prefix == "":
			case len(other.Hosts) > 1 && slices.Contains(other.Hosts, prefix):
				return hint.New(fmt.Errorf("%s is one of several hosts of an upstream in %s already", prefix, file), "change it there, then appliance upstream reload")
			case other.Prefix == prefix || slices.Contains(other.Hosts, prefix):
				return hint.New(fmt.Errorf("%s has an upstream %s already", file, prefix), "to change it, remove it, which keeps what it has brought, and add it again: appliance upstream remove "+prefix)
			}
		}
	}
	return nil
}

// RemoveUpstream returns the text of a config.yaml without the upstream that has a prefix, or without
// that host of one. Everything else in it stays as it is written.
func RemoveUpstream(file string, text []byte, prefix string) ([]byte, error) {
	c, at, err := findUpstreams(file, text)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(c.Upstreams, func(u Upstream) bool { return u.Prefix == prefix || slices.Contains(u.Hosts, prefix) })
	if i < 0 {
		return nil, hint.New(fmt.Errorf("%s has no upstream %s", file, prefix), "appliance upstream list shows them")
	}
	if len(c.Upstreams[i].Hosts) > 1 {
		return nil, hint.New(fmt.Errorf("%s is one of several hosts of an upstream in %s", prefix, file), "take it out of hosts there, then appliance upstream reload")
	}
	lines := strings.Split(string(text), "\n")
	first, last := at.list.Content[i].Line-1, lastLine(at.list.Content[i])
	if len(c.Upstreams) == 1 {
		lines[at.key.Line-1] = strings.Replace(lines[at.key.Line-1], "upstreams:", "upstreams: []", 1)
	}
	lines = slices.Delete(lines, first, last)
	if c.Upstreams = slices.Delete(slices.Clone(c.Upstreams), i, i+1); len(c.Upstreams) == 0 {
		c.Upstreams = nil
	}
	return edited(file, lines, c)
}

// upstreamsAt are the nodes of the upstreams in a document.
type upstreamsAt struct{ key, list *yaml.Node }

func findUpstreams(file string, text []byte) (*Config, upstreamsAt, error) {
	c, err := Parse(file, text)
	if err != nil {
		return nil, upstreamsAt{}, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, upstreamsAt{}, err
	}
	var at upstreamsAt
	root := doc.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "upstreams" {
			at = upstreamsAt{root.Content[i], root.Content[i+1]}
		}
	}
	if at.list != nil && len(at.list.Content) > 0 && at.list.Style&yaml.FlowStyle != 0 || root.Style&yaml.FlowStyle != 0 {
		return nil, at, byHand(file, "writes upstreams in braces or brackets")
	}
	return c, at, nil
}

func byHand(file, why string) error {
	return hint.New(fmt.Errorf("%s %s, which this command does not change", file, why), "change it with an editor, then appliance upstream reload")
}

// lastLine returns the number of the last line of a node.
func lastLine(n *yaml.Node) int {
	last := n.Line + strings.Count(strings.TrimSuffix(n.Value, "\n"), "\n")
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// edited returns the text of lines, which must read as want.
func edited(file string, lines []string, want *Config) ([]byte, error) {
	text := []byte(strings.Join(lines, "\n"))
	got, problems := parse(text)
	if len(problems) > 0 { // in the new entry, whose line the file does not have
		p := problems[0]
		return nil, hint.New(fmt.Errorf("%s: %s", p.Key[strings.LastIndex(p.Key, ".")+1:], p.What), p.Hint)
	}
	if !reflect.DeepEqual(got, want) {
		return nil, byHand(file, "writes upstreams in a way")
	}
	return text, nil
}
