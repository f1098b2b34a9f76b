package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
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

// SetTLS returns the text of a config.yaml, which c was read from, with other values of its keys of
// tls, and c as it then reads. Everything else stays as it is written. ok is false where a value is
// not written on one line of its own.
func SetTLS(text []byte, c *Config, tls TLS) (changed []byte, _ *Config, ok bool) {
	want := *c
	want.TLS = tls
	if text, ok = setKeys(text, c.TLS.keys(), tls.keys(), "tls"); !ok {
		return nil, nil, false
	}
	return readsAs(text, &want)
}

// setKeys writes the values of keys that differ.
func setKeys(text []byte, now, then []yamlkeys.Key, path ...string) (_ []byte, ok bool) {
	for i := range now {
		below := append(slices.Clone(path), now[i].Name)
		if nested, isNested := now[i].Value.([]yamlkeys.Key); isNested {
			text, ok = setKeys(text, nested, then[i].Value.([]yamlkeys.Key), below...)
		} else if to := *then[i].Value.(*string); *now[i].Value.(*string) != to {
			text, ok = setValue(text, to, below...)
		} else {
			ok = true
		}
		if !ok {
			return nil, false
		}
	}
	return text, true
}

// Readdress is SetTLS for hostname and port. The port that is listened on follows if it was the same.
func Readdress(text []byte, c *Config, hostname string, port int) (changed []byte, _ *Config, ok bool) {
	want := *c
	want.Hostname, want.Port = hostname, port
	if c.Listen == listenOn(c.Port) {
		want.Listen = listenOn(port)
	}
	if text, ok = setValue(text, hostname, "hostname"); !ok {
		return nil, nil, false
	}
	if nodeOf(text, "port") == nil {
		text = fmt.Appendf(bytes.TrimRight(text, "\n"), "\nport: %d\n", c.Port)
	}
	if text, ok = setValue(text, port, "port"); !ok {
		return nil, nil, false
	}
	if nodeOf(text, "listen") != nil {
		if text, ok = setValue(text, want.Listen, "listen"); !ok {
			return nil, nil, false
		}
	}
	return readsAs(text, &want)
}

// Relocate is SetTLS for the directory of the blobs and the file of the database.
func Relocate(text []byte, c *Config, storage, database string) (changed []byte, _ *Config, ok bool) {
	want := *c
	want.Storage, want.Database = storage, database
	for key, to := range map[string][2]string{"storage": {c.Storage, storage}, "database": {c.Database, database}} {
		if to[0] != to[1] {
			if text, ok = setValue(text, to[1], key); !ok {
				return nil, nil, false
			}
		}
	}
	return readsAs(text, &want)
}

// readsAs reads a changed text, and reports whether that is what was wanted.
func readsAs(text []byte, want *Config) (changed []byte, _ *Config, ok bool) {
	got, err := Parse("config.yaml", text)
	if err != nil || !reflect.DeepEqual(got, want) {
		return nil, nil, false
	}
	return text, got, true
}

// setValue writes another value of a key. ok is false where it is not on one line of its own.
func setValue(text []byte, to any, path ...string) (_ []byte, ok bool) {
	lines := strings.SplitAfter(string(text), "\n")
	at := nodeOf(text, path...)
	if at == nil || at.Line > len(lines) {
		return nil, false
	}
	value := fmt.Sprint(to)
	if text, isText := to.(string); isText {
		var err error
		if value, err = scalar(text); err != nil {
			return nil, false
		}
	}
	line := lines[at.Line-1]
	ending := line[len(strings.TrimRight(line, "\r\n")):]
	if at.LineComment != "" {
		value += " " + at.LineComment
	}
	lines[at.Line-1] = line[:at.Column-1] + value + ending
	return []byte(strings.Join(lines, "")), true
}

// nodeOf finds the value of a key, nil if there is none.
func nodeOf(text []byte, path ...string) *yaml.Node {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) == 0 {
		return nil
	}
	n := doc.Content[0]
	for _, name := range path {
		n = valueOf(yamlkeys.Resolve(n), name)
		if n == nil {
			return nil
		}
	}
	return n
}

func valueOf(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}
