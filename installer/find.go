package installer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/home"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// installed is an existing install, read from its unit.
type installed struct {
	Unit     string // path of appliance.service
	Binary   string // the executable that it starts
	Config   string // the config.yaml that it names
	QuayRoot string
	User     string   // the user that it runs as; empty in a user's unit
	DataDirs []string // that the service may write to
	ReadDirs []string // in home directories, that it may read
}

var errNotInstalled = errors.New("no appliance is installed here")

func isNotInstalled(err error) bool { return errors.Is(err, errNotInstalled) }

// notInstalled is the error without a unit and, if there could be one, without an install in
// quayRoot.
func notInstalled(unit, quayRoot string) error {
	err := fmt.Errorf("%w: there is no %s", errNotInstalled, unit)
	if quayRoot != "" {
		err = fmt.Errorf("%w: there is neither %s nor an install in %s", errNotInstalled, unit, quayRoot)
	}
	return hint.New(err, "name its directory with --quayRoot, or run the command as the user who "+
		"installed it (root: with sudo)")
}

// find reads the unit of the system, or of the calling user.
func find(d Deps, user bool) (*installed, error) {
	d, err := d.complete()
	if err != nil {
		return nil, err
	}
	if user && d.Home == "" {
		return nil, notInstalled(systemd.Service, "")
	}
	return findUnit(d.Host, d.unitDir(user))
}

func findUnit(h *host.Host, dir string) (*installed, error) {
	path := filepath.Join(dir, systemd.Service)
	content, err := h.ReadFile(path)
	if notThere(err) {
		return nil, notInstalled(path, "")
	}
	if err != nil {
		return nil, fmt.Errorf("look for an installed appliance: %w", err)
	}
	f := &installed{Unit: path}
	f.Binary, f.Config = execStart(string(content))
	f.QuayRoot = filepath.Dir(filepath.Dir(f.Config))
	if f.Config == "" || config.Path(f.QuayRoot) != f.Config {
		return nil, hint.New(fmt.Errorf("%s was not written by this installer: its ExecStart names no "+
			"config.yaml in a quay-config directory", path),
			"rename that unit, or remove it, then run the command again")
	}
	f.User = strings.Join(settings(string(content), "User"), " ")
	f.DataDirs = settings(string(content), "ReadWritePaths")
	f.ReadDirs = settings(string(content), "BindReadOnlyPaths")
	return f, nil
}

// settings returns the words of all lines of a key, split as systemd.syntax(7) does: parts in
// double or single quotes, backslash escapes, and %% for %.
func settings(unit, key string) (words []string) {
	for line := range strings.Lines(unit) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), key+"=")
		for rest = strings.TrimSpace(rest); ok && rest != ""; rest = strings.TrimSpace(rest) {
			var word string
			word, rest = unitWord(rest)
			words = append(words, strings.ReplaceAll(word, "%%", "%"))
		}
	}
	return words
}

// execStart returns the program of ExecStart= and the value of --config. In an argument, and not in
// the program's path, $$ stands for $.
func execStart(unit string) (binary, conf string) {
	args := settings(unit, "ExecStart")
	for i, arg := range args {
		value, ok := strings.CutPrefix(arg, "--config=")
		if arg == "--config" && i+1 < len(args) {
			value, ok = args[i+1], true
		}
		if ok {
			return args[0], strings.ReplaceAll(value, "$$", "$")
		}
	}
	return "", ""
}

func unitWord(line string) (word, rest string) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n'):
			return b.String(), line[i:]
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}

// complete fills in the defaults.
func (d Deps) complete() (Deps, error) {
	if d.Host == nil {
		d.Host = host.Local()
	}
	if d.Connect == nil {
		d.Connect = connectSystemd
	}
	if d.Resolver == nil {
		d.Resolver = net.DefaultResolver
	}
	if d.Health == nil {
		d.Health = checkHealth
	}
	if d.Reach == nil {
		d.Reach = reach
	}
	if d.Seed == nil {
		d.Seed = seedUsers
	}
	if d.Foresee == nil {
		d.Foresee = foreseeUsers
	}
	if d.Login == nil {
		d.Login = CheckAuth
	}
	if d.Adopt == nil {
		d.Adopt = takeOverQuay
	}
	if d.Clock == nil {
		d.Clock = readClock
	}
	if d.Statfs == nil {
		d.Statfs = unix.Statfs
	}
	if d.Label == nil {
		d.Label = labelOf
	}
	if d.Geteuid == nil {
		d.Geteuid = os.Geteuid
	}
	if d.Home == "" {
		// Without one, an error comes where it is needed: root with --quayRoot does not need it.
		dir, err := home.Dir()
		if err != nil && !errors.Is(err, home.ErrNone) {
			return d, err
		}
		d.Home = dir
	}
	return d, nil
}

// unitDir returns the directory of an administrator's, or a user's, units. XDG_CONFIG_HOME is
// ignored: the environment of the user's manager counts, which has the default.
func (d Deps) unitDir(user bool) string {
	if user {
		return filepath.Join("/", d.Home, ".config", "systemd", "user")
	}
	return "/etc/systemd/system"
}

func (d Deps) binary(user bool) string {
	if user {
		return filepath.Join("/", d.Home, ".local", "bin", "appliance")
	}
	return "/usr/local/bin/appliance"
}
