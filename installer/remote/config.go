package remote

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/kevinburke/ssh_config"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/home"
)

// settings are ~/.ssh/config and /etc/ssh/ssh_config, of which the first has precedence.
type settings struct {
	home  string
	files []*ssh_config.Config
}

const systemConfig = "/etc/ssh/ssh_config"

// load reads the configuration of ssh(1) once.
func (to *Target) load(notes io.Writer) error {
	if to.ssh != nil {
		return nil
	}
	dir, err := home.Dir()
	if err != nil {
		return err
	}
	to.ssh = &settings{home: dir}
	for _, file := range []string{filepath.Join(dir, ".ssh", "config"), systemConfig} {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var c *ssh_config.Config
		if err == nil {
			c, err = ssh_config.DecodeBytes(text)
		}
		if err != nil {
			// Match with other criteria than a host, for one, is beyond the library.
			fmt.Fprintf(notes, "note: %s is not used: %v\n", file, err)
			continue
		}
		to.ssh.files = append(to.ssh.files, c)
	}
	return nil
}

func (s *settings) get(alias, key string) string {
	for _, c := range s.files {
		if v, err := c.Get(alias, key); err == nil && v != "" {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// all is for keys that may be given several times.
func (s *settings) all(alias, key string) (values []string) {
	for _, c := range s.files {
		more, _ := c.GetAll(alias, key) // of a value that cannot be read there is none
		for _, v := range more {
			values = append(values, strings.Trim(v, `"`))
		}
	}
	return values
}

// yes reads a switch.
func (s *settings) yes(alias, key string) bool { return strings.EqualFold(s.get(alias, key), "yes") }

// name returns the name by which clients reach a host.
func (s *settings) name(typed string) string {
	_, typed, _ = cut(withoutScheme(typed))
	alias, _ := splitPort(typed)
	if name := strings.ReplaceAll(s.get(alias, "HostName"), "%h", alias); name != "" && net.ParseIP(name) == nil {
		return name
	}
	return alias
}

// hop is a host on the way, or the last one.
type hop struct {
	alias   string // as it was typed, without its port
	address string // HOST:PORT, to dial
	known   string // HOST:PORT, as known_hosts has it
	user    string
}

// splitPort splits HOST and HOST:PORT, of which HOST may be an IPv6 address, in brackets with a port.
func splitPort(s string) (host, port string) {
	if host, port, err := net.SplitHostPort(s); err == nil {
		return host, port
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), ""
}

func (s *settings) hop(typed, as string) (hop, error) {
	if name, host, ok := cut(withoutScheme(typed)); ok || host != typed {
		as, typed = cmp.Or(as, name), host
	}
	alias, port := splitPort(typed)
	if alias == "" || strings.HasPrefix(alias, "-") || strings.ContainsAny(alias, " \t\n/") {
		return hop{}, fmt.Errorf("%q is not a host", typed)
	}
	h := hop{alias: alias, user: cmp.Or(as, s.get(alias, "User"))}
	host := cmp.Or(strings.ReplaceAll(s.get(alias, "HostName"), "%h", alias), alias)
	h.address = net.JoinHostPort(host, cmp.Or(port, s.get(alias, "Port"), "22"))
	h.known = h.address
	if name := s.get(alias, "HostKeyAlias"); name != "" {
		h.known = net.JoinHostPort(name, "22")
	}
	if h.user == "" {
		me, err := user.Current()
		if err != nil {
			return hop{}, hint.New(fmt.Errorf("find the user to log in as on %s: %w", alias, err), "name it: --targetUsername")
		}
		h.user = me.Username
	}
	return h, nil
}

// withoutScheme returns the host of ssh://[USER@]HOST[:PORT], which ssh(1) takes as well.
func withoutScheme(typed string) string {
	if rest, ok := strings.CutPrefix(typed, "ssh://"); ok {
		return strings.TrimSuffix(rest, "/")
	}
	return typed
}

// cut splits USER@HOST.
func cut(s string) (user, host string, found bool) {
	i := strings.LastIndex(s, "@")
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// route returns the hosts on the way to a target, and the target.
func (to *Target) route() (hops []hop, err error) {
	last, err := to.ssh.hop(to.Host, to.User)
	if err != nil {
		return nil, err
	}
	jump := cmp.Or(to.Jump, to.ssh.get(last.alias, "ProxyJump"))
	command := to.ssh.get(last.alias, "ProxyCommand")
	if command != "" && !strings.EqualFold(command, "none") && to.Jump == "" {
		return nil, hint.New(fmt.Errorf("%s is reached by a ProxyCommand in the configuration of ssh, which is not built yet", last.alias),
			"name the host between with -J, or with ProxyJump instead")
	}
	if jump != "" && !strings.EqualFold(jump, "none") {
		for _, typed := range strings.Split(jump, ",") {
			h, err := to.ssh.hop(strings.TrimSpace(typed), "")
			if err != nil {
				return nil, fmt.Errorf("jump host: %w", err)
			}
			hops = append(hops, h)
		}
	}
	return append(hops, last), nil
}

// path expands what ssh_config(5) lets stand in the names of files.
func (s *settings) path(text string, h hop) string {
	if rest, ok := strings.CutPrefix(text, "~/"); ok {
		text = filepath.Join(s.home, rest)
	}
	host, _, _ := net.SplitHostPort(h.address)
	local := ""
	if me, err := user.Current(); err == nil {
		local = me.Username
	}
	return strings.NewReplacer("%%", "%", "%d", s.home, "%h", host, "%n", h.alias, "%r", h.user, "%u", local).Replace(text)
}
