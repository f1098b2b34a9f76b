package installer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// Identity is an appliance's configuration and the user as whom a command acts on its store.
type Identity struct {
	Path    string // of config.yaml
	Config  *config.Config
	UID     int
	GID     int
	Sole    bool // only root and the caller can change the configuration
	Changer int  // without Sole: the user who can

	host *host.Host
	also []string // more directories that a command acts on, see With
}

// identify reads a configuration and decides as which user a command acts. A caller other than root
// keeps its identity. Root does not act on a store as root, since the service's user could lead it
// to any file of the host. It acts as the first of
//
//   - the user of the system's unit, if that runs this configuration
//   - the user who can change the configuration, if that is not root alone
//   - the user in the record of an install
//   - the owner of the store's directories; root only if no other user can change the way to them
func identify(d Deps, path string) (*Identity, error) {
	h := d.Host
	if h == nil {
		h = host.Local()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	other, err := h.Other(path)
	if err != nil {
		return nil, err
	}
	content, err := h.ReadFile(path)
	if err != nil {
		return nil, err
	}
	id := &Identity{Path: path, UID: os.Geteuid(), GID: os.Getegid(), Sole: other == nil, host: h}
	if id.Config, err = config.Parse(path, content); err != nil {
		return nil, err
	}
	if other != nil {
		id.Changer = other.UID
	}
	if id.UID != 0 {
		if other != nil {
			return nil, otherError(path, *other)
		}
		return id, nil
	}
	return id, id.become(d, other)
}

// become finds the user as whom root acts.
func (id *Identity) become(d Deps, other *host.Other) error {
	found, err := findUnit(id.host, d.unitDir(false))
	if err == nil && found.Config == id.Path && found.User != "" {
		owner, err := id.host.User(found.User)
		if err != nil {
			return fmt.Errorf("find the user of %s: %w", found.Unit, err)
		}
		id.UID, id.GID = owner.UID, owner.GID
		return nil
	}
	if other != nil {
		if other.UID < 0 {
			return otherError(id.Path, *other)
		}
		id.UID, id.GID = other.UID, id.host.GroupOf(other.UID, other.GID)
		return nil
	}
	r, _, err := readRecord(id.host, filepath.Dir(filepath.Dir(id.Path)))
	if err == nil && r != nil && r.Owner != "" {
		if owner, err := id.host.User(r.Owner); err == nil {
			id.UID, id.GID = owner.UID, owner.GID
			return nil
		}
	}
	return id.ownerOfStore()
}

// contentDirs are the directories of blobs and rows that are on this host.
func contentDirs(cfg *config.Config) (dirs []string) {
	if !s3url.Is(cfg.Storage) {
		dirs = append(dirs, cfg.Storage)
	}
	if cfg.DatabaseServer() == "" {
		dirs = append(dirs, filepath.Dir(cfg.Database))
	}
	return dirs
}

// storeDirs are the directories that the running registry writes to.
func storeDirs(cfg *config.Config) []string {
	dirs := append(contentDirs(cfg), filepath.Dir(cfg.ControlSocket))
	if cfg.TLS.State != "" {
		dirs = append(dirs, cfg.TLS.State)
	}
	return dirs
}

// ownerOfStore takes the owner of the store's directories, which have to agree.
func (id *Identity) ownerOfStore() error {
	var first string
	for _, dir := range storeDirs(id.Config) {
		info, err := id.host.StatTarget(dir)
		if notThere(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find the owner of the store: %w", err)
		}
		if first == "" {
			first, id.UID, id.GID = dir, info.Owner.UID, id.host.GroupOf(info.Owner.UID, info.Owner.GID)
			continue
		}
		if info.Owner.UID != id.UID {
			return id.differ(first, dir)
		}
	}
	if id.UID != 0 {
		return nil
	}
	for _, dir := range storeDirs(id.Config) {
		other, err := id.host.Other(dir)
		if err == nil && other == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		return otherError(dir, *other)
	}
	return nil
}

// differ returns the error for two directories with different owners. The one to correct is root's,
// as that of a new disk.
func (id *Identity) differ(a, b string) error {
	if id.UID == 0 {
		a, b = b, a
	}
	return ownersError(a, b)
}

// CheckStore rejects a store whose directories do not belong to the command's user, who could not
// open its files, and whose new files the registry could not open.
func (id *Identity) CheckStore() error {
	dirs := [2]string{id.Config.Storage, filepath.Dir(id.Config.Database)} // with PostgreSQL that of the control socket
	bucket := s3url.Is(dirs[0])
	if bucket {
		dirs[0] = dirs[1]
	}
	var owners [2]int
	for i, dir := range dirs {
		info, err := id.host.StatTarget(dir)
		switch absent := errors.Is(err, fs.ErrNotExist); {
		case absent && i == 0 && !bucket:
			return hint.New(fmt.Errorf("the directory of the blobs, %s, does not exist", dir),
				"mount the file system that has it; if it is lost, make it and give it to the service's "+
					"user, and restore a backup: appliance restore")
		case absent:
			return nil // the store has a better error
		case err != nil:
			return fmt.Errorf("find the owner of the store: %w", err)
		}
		owners[i] = info.Owner.UID
	}
	if os.Geteuid() != 0 { // the kernel decides
		if owners[0] != owners[1] {
			return id.differ(dirs[0], dirs[1])
		}
		return nil
	}
	for i, dir := range dirs {
		switch {
		case owners[i] == id.UID:
		case id.Sole:
			return ownersError(dirs[1-i], dir)
		default:
			return hint.New(fmt.Errorf("%s names %s, which does not belong to user %d, who can change that "+
				"file", id.Path, dir, id.Changer), "find out how that came about, and correct it")
		}
	}
	return nil
}

// CheckPort returns an error if this is the installed appliance and its socket does not listen on
// the port of the configuration, by which clients, or the balancer before it, reach it.
func (id *Identity) CheckPort(d Deps) error {
	found, err := find(d, os.Geteuid() != 0)
	if err != nil || found.Config != id.Path ||
		listensOn(id.host, filepath.Dir(found.Unit), id.Config.PortHere()) {
		return nil
	}
	return hint.New(fmt.Errorf("%s says port %d, and %s listens on another: clients of https://%s do "+
		"not reach this registry", id.Path, id.Config.PortHere(), systemd.Socket, id.Config.Address()),
		"let it listen there: appliance install; or change the port back")
}

// With returns the identity for a command that acts on the store of another configuration as well,
// which has to belong to the same user.
func (id *Identity) With(other *Identity) (*Identity, error) {
	if id.UID != other.UID {
		return nil, hint.New(fmt.Errorf("a command on the stores of %s and %s would run as user %d for the one and as user %d for the other",
			id.Path, other.Path, id.UID, other.UID),
			fmt.Sprintf("give the directories of both stores to one user, as the registry runs as: chown -R %d DIRECTORY", id.UID))
	}
	both := *id
	both.also = other.dirs()
	return &both, nil
}

// dirs returns the directories of the configuration, and its own.
func (id *Identity) dirs() []string {
	return append(append(storeDirs(id.Config), filepath.Dir(id.Path)), readDirs(id.Config)...)
}

// closed returns the directories that the identity may not pass through on the way to those of the
// configuration, and the latter.
func (id *Identity) closed() (closed, beyond []string, err error) {
	owner := host.Owner{UID: id.UID, GID: id.GID}
	beyond = append(id.dirs(), id.also...)
	for _, dir := range beyond {
		more, err := id.host.Closed(dir, owner)
		if err != nil {
			return nil, nil, err
		}
		closed = append(closed, more...)
	}
	return closed, beyond, nil
}

// asInstaller is the next step of a user who lacks rights.
const asInstaller = "run the command as root, or as the user who installed the appliance"

// otherError says that a user who must not could change what a command would act on.
func otherError(path string, other host.Other) error {
	if other.UID < 0 {
		return hint.New(fmt.Errorf("several users can change %s: %s is writable for them",
			path, other.Path), "close it to them: chmod go-w "+other.Path)
	}
	next := asInstaller
	if os.Geteuid() == 0 {
		next = "run the command as that user, or make it root's if what it holds is as it should be: " +
			"chown -R root " + other.Path
	}
	return hint.New(fmt.Errorf("user %d can change %s, and %s is that user's: permission denied",
		other.UID, path, other.Path), next)
}

// ownersError says that the directories of a store belong to different users.
func ownersError(right, wrong string) error {
	return hint.New(fmt.Errorf("%s and %s have different owners", right, wrong),
		"both are to belong to the user that the registry runs as: chown --reference="+right+" "+wrong)
}
