package systemd

import (
	"bytes"
	"embed"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed units/*.tmpl
var unitTexts embed.FS

// ServiceOptions are what differs between one installation's service and another's.
// Every path is absolute and passes CheckPath.
type ServiceOptions struct {
	Binary   string
	Config   string   // config.yaml
	DataDirs []string // directories that the daemon writes to; they exist before it starts
	// ReadDirs are further directories that it reads, such as where the user's own certificate lies. Name directories
	// and not files: what is bound is the file of that moment, and its replacement would never be seen.
	ReadDirs []string
	// Ways lists the names by which a path is reached through symbolic links, the path itself first; nil: that alone.
	// What a link leads to may be hidden by the sandbox where the link is not.
	Ways func(path string) []string

	UserUnit bool   // for a user's manager: no account of its own, less hardening
	User     string // account of the system service; "" = appliance
	Group    string // "" = User
}

// SocketOptions are what differs between one installation's socket and another's.
type SocketOptions struct {
	Port int // TCP, on all addresses
}

// ServiceUnit is the text of appliance.service.
func ServiceUnit(o ServiceOptions) []byte {
	if o.User == "" {
		o.User = "appliance"
	}
	if o.Group == "" {
		o.Group = o.User
	}
	if o.UserUnit {
		return render("user.service.tmpl", o)
	}
	text := systemService{ServiceOptions: o, Writable: o.hiddenData(), Readable: o.hiddenRest()}
	text.HomeNeeded = slices.ContainsFunc(slices.Concat(text.Writable, text.Readable), o.underHome)
	return render("system.service.tmpl", text)
}

// SocketUnit is the text of appliance.socket, the same for the system's manager and a user's.
func SocketUnit(o SocketOptions) []byte { return render("socket.tmpl", o) }

// systemService is what the text of a system service is filled in with.
type systemService struct {
	ServiceOptions
	HomeNeeded bool     // something lies in a home directory
	Writable   []string // what the sandbox would hide and has to be bound back, to be written
	Readable   []string // and to be read
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

// Written are the data directories, also by the names under which they are bound back.
func (s systemService) Written() []string {
	paths := slices.Clone(s.DataDirs)
	for _, path := range s.Writable {
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// hiddenRest is what is hidden and not within a data directory, which is bound back already.
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

// hidden gives the first name by which a path is reached that the sandbox hides: bound back under that name, it is found.
func (o ServiceOptions) hidden(path string) (string, bool) {
	for _, way := range o.ways(path) {
		if o.underHome(way) || within(way, "/tmp") || within(way, "/var/tmp") {
			return way, true
		}
	}
	return "", false
}

// underHome reports whether ProtectHome= hides a path, also where a home directory is itself a link (/home to /var/home).
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

// render fills in a text of ours. The texts are embedded and the options plain, so what can fail is a mistake in
// this package, which the golden tests find.
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
