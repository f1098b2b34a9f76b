package config

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// Follow returns the text of a config.yaml, which c was read from, with that line of it true which
// follows from others: SERVER_HOSTNAME. Everything else in it is the user's and stays as it is.
func Follow(text []byte, c *Config) []byte {
	line := fmt.Sprintf("%s: %s", serverHostname, c.Address())
	lines := strings.SplitAfter(string(text), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, serverHostname+":") {
			ending := l[len(strings.TrimRight(l, "\r\n")):]
			lines[i] = line + ending
			return []byte(strings.Join(lines, ""))
		}
	}
	if last := lines[len(lines)-1]; last != "" {
		line = "\n" + line
	}
	return append(bytes.Clone(text), line+"\n"...)
}

// MoveCAKey returns the text of a config.yaml with another value of tls.caKey, and c as it then
// reads. ok is false where the value is not written on one line as it is.
func MoveCAKey(text []byte, c *Config, to string) (moved []byte, _ *Config, ok bool) {
	line := lineOf(text, "tls", "caKey")
	lines := strings.SplitAfter(string(text), "\n")
	if line < 1 || line > len(lines) {
		return nil, nil, false
	}
	lines[line-1] = strings.Replace(lines[line-1], c.TLS.CAKey, to, 1)
	moved = []byte(strings.Join(lines, ""))
	changed, err := Parse("config.yaml", moved)
	if err != nil || changed.TLS.CAKey != to {
		return nil, nil, false
	}
	return moved, changed, true
}

// lineOf finds where the value of a key stands, 0 if nowhere.
func lineOf(text []byte, path ...string) int {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) == 0 {
		return 0
	}
	n := doc.Content[0]
	for _, name := range path {
		n = valueOf(yamlkeys.Resolve(n), name)
		if n == nil {
			return 0
		}
	}
	return n.Line
}

func valueOf(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}
