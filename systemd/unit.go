package systemd

import (
	"bytes"
	"embed"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"

	"github.com/mirror-appliance/appliance/internal/hint"
)

//go:embed units/*.tmpl
var unitTexts embed.FS

// ServiceOptions are the parts of the service's unit that differ between installs. Every path is
// absolute and passes CheckPath.
type ServiceOptions struct {
	Binary   string
	Config   string   // config.yaml
	DataDirs []string // directories that the daemon writes to; they exist before it starts
	// ReadDirs are further directories that it reads, such as that of the user's own certificate. A
	// bound file would stay the file of that moment when it is replaced.
	ReadDirs []string
	// Ways returns the names by which a path is reached through symbolic links, the path itself
	// first; nil: that alone. The sandbox may hide the target of a link and not the link.
	Ways func(path string) []string

	UserUnit bool   // for a user's manager: no account, less hardening
	User     string // account and group of the system service
}

// ServiceUnit returns the text of appliance.service.
func ServiceUnit(o ServiceOptions) []byte {
	if o.UserUnit {
		return render("user.service.tmpl", o)
	}
	text := systemService{ServiceOptions: o, Writable: o.hiddenData(), Readable: o.hiddenRest()}
	text.HomeNeeded = slices.ContainsFunc(slices.Concat(text.Writable, text.Readable), o.underHome)
	return render("system.service.tmpl", text)
}

// SocketUnit returns the text of appliance.socket, which listens on a TCP port of all addresses. It
// is the same for the system's manager and a user's.
func SocketUnit(port int) []byte { return render("socket.tmpl", port) }

// RecoverOptions are the parts of the unit that takes an interrupted upgrade back. Every path passes
// CheckPath.
type RecoverOptions struct {
	Program  string // to run
	QuayRoot string
}

// RecoverUnit returns the text of appliance-recover.service.
func RecoverUnit(o RecoverOptions) []byte { return render("recover.tmpl", o) }

// systemService is the data of the template of a system service.
type systemService struct {
	ServiceOptions
	HomeNeeded bool     // something lies in a home directory
	Writable   []string // the sandbox would hide these: they are bound back, to be written
	Readable   []string // the same, to be read
}

func (o ServiceOptions) hiddenData() []string {
	var paths []string
	for _, dir := range o.DataDirs {
		if path, ok := o.hidden(dir); ok && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// Written returns the data directories, also by the names under which they are bound back.
func (s systemService) Written() []string {
	paths := slices.Clone(s.DataDirs)
	for _, path := range s.Writable {
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// hiddenRest returns the hidden paths outside of the data directories, which are bound back
// already.
func (o ServiceOptions) hiddenRest() []string {
	var paths []string
	for _, path := range append([]string{o.Binary, filepath.Dir(o.Config)}, o.ReadDirs...) {
		path, ok := o.hidden(path)
		held := func(dir string) bool { return within(path, dir) }
		if ok && !slices.ContainsFunc(o.hiddenData(), held) && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

func (o ServiceOptions) ways(path string) []string {
	if o.Ways == nil {
		return []string{path}
	}
	return o.Ways(path)
}

// hidden returns the first name of a path that the sandbox hides. Bound back under that name, the
// path is reachable.
func (o ServiceOptions) hidden(path string) (string, bool) {
	for _, way := range o.ways(path) {
		if o.underHome(way) || within(way, "/tmp") || within(way, "/var/tmp") {
			return way, true
		}
	}
	return "", false
}

// underHome reports whether ProtectHome= hides a path, also where a home directory is itself a link
// (/home to /var/home).
func (o ServiceOptions) underHome(path string) bool {
	for _, home := range []string{"/root", "/home", "/run/user"} {
		if slices.ContainsFunc(o.ways(home), func(dir string) bool { return within(path, dir) }) {
			return true
		}
	}
	return false
}

func within(path, dir string) bool {
	path, dir = filepath.Clean(path), filepath.Clean(dir)
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// render executes an embedded template. An error is a mistake in this package, which the golden
// tests find.
func render(name string, data any) []byte {
	funcs := template.FuncMap{"quote": quote, "argument": quoteArgument, "quoteAll": quoteAll}
	var text bytes.Buffer
	t := template.Must(template.New(name).Funcs(funcs).ParseFS(unitTexts, "units/"+name))
	if err := t.Execute(&text, data); err != nil {
		panic(fmt.Sprintf("unit text %s: %v", name, err))
	}
	return text.Bytes()
}

func quoteAll(paths []string) string {
	words := make([]string, len(paths))
	for i, path := range paths {
		words[i] = quote(path)
	}
	return strings.Join(words, " ")
}

// quote returns text as one word of a list in a unit file, as systemd.syntax(7) splits words.
//
// It puts a double quote in single quotes instead of escaping it: lists of paths know fewer escapes
// than command lines, while quotes mean the same in all lists. It doubles %, which begins a
// specifier.
func quote(text string) string {
	text = strings.ReplaceAll(text, `%`, `%%`)
	text = strings.ReplaceAll(text, `\`, `\\`)
	text = strings.ReplaceAll(text, `"`, `"'"'"`)
	return `"` + text + `"`
}

// quoteArgument is quote for an argument in ExecStart=, where $ begins a variable. In the path of
// the executable it does not, and would stay doubled.
func quoteArgument(text string) string {
	return strings.ReplaceAll(quote(text), `$`, `$$`)
}

// CheckPath rejects a path that a unit file cannot contain.
func CheckPath(path string) error {
	reason := ""
	switch {
	case !strings.HasPrefix(path, "/"):
		reason = "is not absolute"
	case !utf8.ValidString(path):
		reason = "is not UTF-8"
	case strings.ContainsFunc(path, unicode.IsControl):
		reason = "holds a control character"
	default:
		return nil
	}
	return hint.New(fmt.Errorf("path %q %s", path, reason), "choose another directory")
}
