package adopt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// QuayInstall is where a mirror-registry 2.x or 3 has what.
type QuayInstall struct {
	Version3 bool   // the one in Go
	Root     string // its install directory
	Storage  string // of blobs
	Database string // the file
	Hostname string // HOST[:PORT]

	secret    string
	closed    bool // nothing is pulled without a login
	supers    []string
	first     bool     // the superuser is the first user
	robotsOff bool     // robots may not log in, but for
	robots    []string // these
}

// sqliteName is the database of a mirror-registry 2.x.
const sqliteName = "quay_sqlite.db"

// userUnits is where a user's units are, in the home directory.
const userUnits = "/.config/systemd/user"

// UnitDirsAbove returns the directories of units of the users in whose home directory a path may be.
func UnitDirsAbove(path string) (dirs []string) {
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		dirs = append(dirs, dir+userUnits)
	}
	return dirs
}

// errNoQuay is the error without a mirror-registry.
var errNoQuay = errors.New("there is no mirror-registry")

// IsQuay reports whether a directory is the install directory of a mirror-registry.
func IsQuay(dir string) bool {
	_, err := readQuayConfig(filepath.Join(dir, "quay-config"))
	return err == nil || isVersion3(dir)
}

// FindQuay finds the mirror-registry whose units are in a directory. errNoQuay when there is none. A
// unit may have been renamed with a suffix.
func FindQuay(ctx context.Context, unitDir, suffix string) (QuayInstall, error) {
	q, gone, err := findQuay(ctx, unitDir, suffix)
	return q, cmp.Or(err, gone)
}

// FindRest is FindQuay for a mirror-registry that is being removed: a part that does not exist any more is
// not known then, or is where it is by default, and none at all is the zero value.
func FindRest(ctx context.Context, unitDir, suffix string) (QuayInstall, error) {
	q, _, err := findQuay(ctx, unitDir, suffix)
	if errors.Is(err, errNoQuay) {
		return QuayInstall{}, nil
	}
	return q, err
}

// findQuay also returns the error of a part that does not exist: the configuration, or a volume.
func findQuay(ctx context.Context, unitDir, suffix string) (q QuayInstall, gone, err error) {
	unit := filepath.Join(unitDir, "quay-app.service")
	if info, err := os.Lstat(unit); err != nil || !info.Mode().IsRegular() { // a link is the alias of ours
		unit += suffix
	}
	text, err := regular.ReadFile(unit)
	if errors.Is(err, fs.ErrNotExist) {
		if q, found, err := findVersion3(ctx, QuadletFile(unitDir), suffix); found {
			gone, err := partGone(err)
			return q, gone, err
		}
		return q, nil, hint.New(fmt.Errorf("%w: %s does not exist", errNoQuay, unit),
			"run the command as the user who installed it (root: with sudo), or name its directory: appliance adopt DIRECTORY")
	}
	if err != nil {
		return q, nil, err
	}
	volumes := volumesOf(string(text))
	conf := volumes["/quay-registry/conf/stack"]
	if conf == "" {
		return q, nil, hint.New(fmt.Errorf("%w: %s mounts nothing at /quay-registry/conf/stack", errNoQuay, unit),
			"name its directory: appliance adopt DIRECTORY")
	}
	q.Root = filepath.Dir(conf)
	var storageErr, databaseErr error
	q.Storage, storageErr = volumeDir(ctx, volumes["/datastorage"], unitDir)
	if q.Database, databaseErr = volumeDir(ctx, volumes["/sqlite"], unitDir); databaseErr == nil {
		q.Database = filepath.Join(q.Database, sqliteName)
	}
	// The first recognizes 1.x, without a volume for SQLite.
	gone, err = partGone(q.configure(), storageErr, databaseErr)
	return q, gone, err
}

// partGone returns the first error of a part that does not exist, and the first other one.
func partGone(errs ...error) (gone, err error) {
	for _, e := range errs {
		switch {
		case !errors.Is(e, fs.ErrNotExist):
			err = cmp.Or(err, e)
		default:
			gone = cmp.Or(gone, e)
		}
	}
	return gone, err
}

// OpenQuay is the mirror-registry in an install directory, without its units.
func OpenQuay(dir string) (QuayInstall, error) {
	if isVersion3(dir) {
		q := version3(dir)
		if err := q.configure3(dir); !errors.Is(err, fs.ErrNotExist) {
			return q, err
		}
		return q, nil
	}
	q := QuayInstall{Root: dir, Storage: filepath.Join(dir, "quay-storage"), Database: filepath.Join(dir, "sqlite-storage", sqliteName)}
	return q, q.configure()
}

// volumesOf returns the sources of the volumes of a unit, by where they are mounted.
func volumesOf(unit string) map[string]string {
	volumes := map[string]string{}
	words := strings.Fields(strings.ReplaceAll(unit, "\\\n", " "))
	for i, word := range words {
		value, ok := strings.CutPrefix(word, "--volume=")
		if !ok && (word == "-v" || word == "--volume") && i+1 < len(words) {
			value, ok = words[i+1], true
		}
		if parts := strings.Split(strings.Trim(value, `"'`), ":"); ok && len(parts) >= 2 {
			volumes[parts[1]] = parts[0]
		}
	}
	return volumes
}

// volumeDir returns the directory of a volume: a path, or the name of one of podman's. Of another user's
// podman, root knows the usual place.
func volumeDir(ctx context.Context, source, unitDir string) (string, error) {
	if filepath.IsAbs(source) {
		return source, nil
	}
	if source == "" {
		return "", errors.New("the unit does not mount what a mirror-registry does")
	}
	if home, ok := strings.CutSuffix(unitDir, userUnits); ok && filepath.IsLocal(source) {
		if info, err := os.Stat(home); err == nil && int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			return filepath.Join(home, ".local/share/containers/storage/volumes", source, "_data"), nil
		}
	}
	out, err := exec.CommandContext(ctx, "podman", "volume", "inspect", "--format", "{{.Mountpoint}}", "--", source).Output()
	dir := strings.TrimSpace(string(out))
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		missing := exec.CommandContext(ctx, "podman", "volume", "exists", "--", source).Run()
		if errors.As(missing, &failed) && failed.ExitCode() == 1 {
			err = fmt.Errorf("%w, %w", err, fs.ErrNotExist)
		}
	}
	if err != nil || !filepath.IsAbs(dir) {
		return "", hint.New(fmt.Errorf("ask podman where the volume %s is: %w", source, errors.Join(err)),
			"see: podman volume inspect "+source)
	}
	return dir, nil
}

// quayConfig is what matters of Quay's config.yaml.
type quayConfig struct {
	Hostname  string           `yaml:"SERVER_HOSTNAME"`
	Database  string           `yaml:"DB_URI"`
	Storage   map[string][]any `yaml:"DISTRIBUTED_STORAGE_CONFIG"`
	Secret    string           `yaml:"DATABASE_SECRET_KEY"`
	Supers    []string         `yaml:"SUPER_USERS"`
	Public    *bool            `yaml:"FEATURE_ANONYMOUS_ACCESS"`
	RobotsOff bool             `yaml:"ROBOTS_DISALLOW"`
	Robots    []string         `yaml:"ROBOTS_WHITELIST"`
}

func readQuayConfig(dir string) (c quayConfig, err error) {
	file := filepath.Join(dir, "config.yaml")
	text, err := regular.ReadFile(file)
	if err != nil {
		return c, err
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	if c.Database == "" {
		return c, fmt.Errorf("%w: %s is not Quay's: it has no DB_URI", errNoQuay, file)
	}
	return c, nil
}

func (q *QuayInstall) configure() error {
	c, err := readQuayConfig(filepath.Join(q.Root, "quay-config"))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(c.Database, "sqlite:") {
		return hint.New(fmt.Errorf("the mirror-registry in %s is a 1.x, which has a PostgreSQL database", q.Root),
			"upgrade it to 2.x first, with the mirror-registry program of that version: ./mirror-registry upgrade")
	}
	q.Hostname = c.Hostname
	q.take(c)
	return nil
}

// take takes what configurations of both versions have.
func (q *QuayInstall) take(c quayConfig) {
	q.secret, q.supers = c.Secret, c.Supers
	q.closed = c.Public != nil && !*c.Public
	q.robotsOff, q.robots = c.RobotsOff, c.Robots
}
