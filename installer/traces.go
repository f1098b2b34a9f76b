package installer

import (
	"path/filepath"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// Traces are where an appliance has left what tells of it: for those who look at it from outside.
type Traces struct {
	Host     *host.Host
	User     bool   // a user's service
	QuayRoot string // install directory
	Config   string // config.yaml
	Record   string // what installs have done
	Units    []string
	Secrets  []string // files with logins or a key, which are not to be shown
	Dirs     []string // that the registry writes to
	Database string   // its file; "" without a configuration that can be used, or in PostgreSQL
	// Conf is the configuration; nil if it cannot be used.
	Conf *config.Config
}

// Trace finds the traces of an appliance, also of one whose configuration cannot be used.
func Trace(d Deps, file, root string) (*Traces, error) {
	d, err := d.complete()
	if err != nil {
		return nil, err
	}
	path, err := locate(d, file, root)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	content, err := d.Host.ReadFile(path)
	if notThere(err) {
		return nil, absent(path, file, root)
	}
	if err != nil {
		return nil, err
	}
	t := &Traces{Host: d.Host, User: d.Geteuid() != 0, Config: path, QuayRoot: filepath.Dir(filepath.Dir(path))}
	t.Record = recordPath(t.QuayRoot)
	t.Secrets = []string{PullSecretFile(t.QuayRoot)}
	t.Dirs = []string{t.QuayRoot}
	if unit, err := find(d, t.User); err == nil && unit.Config == path {
		t.Units = t.units(d.unitDir(t.User))
	}
	if t.Conf, err = config.Parse(path, content); err != nil {
		t.Conf = nil
		return t, nil
	}
	if t.Conf.DatabaseServer() == "" {
		t.Database = t.Conf.Database
	}
	t.Dirs = append(t.Dirs, storeDirs(t.Conf)...)
	for _, f := range namedBy(t.Conf) {
		if f.secret || f.own {
			t.Secrets = append(t.Secrets, f.path)
		}
	}
	return t, nil
}

// units lists the files of the units, and what was added to them with systemctl edit.
func (t *Traces) units(dir string) (files []string) {
	for _, unit := range []string{systemd.Service, systemd.Socket} {
		files = append(files, filepath.Join(dir, unit))
		for _, in := range []string{dir, "/run/systemd/system"} {
			names, _ := t.Host.Names(filepath.Join(in, unit+".d")) // mostly there is none
			for _, name := range names {
				files = append(files, filepath.Join(in, unit+".d", name))
			}
		}
	}
	return files
}
