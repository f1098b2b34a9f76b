package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// QuayInstall is where a mirror-registry 2.x has what.
type QuayInstall struct {
	Root     string // its install directory
	Storage  string // of blobs
	Database string // the directory
	Hostname string // HOST[:PORT]

	secret string
	closed bool // nothing is pulled without a login
	supers []string
}

// errNoQuay is the error without a mirror-registry.
var errNoQuay = errors.New("there is no mirror-registry")

// IsQuay reports whether a directory is the install directory of a mirror-registry.
func IsQuay(dir string) bool {
	_, err := readQuayConfig(dir)
	_, err3 := os.Stat(filepath.Join(dir, "quay.db"))
	return err == nil || err3 == nil
}

// FindQuay finds the mirror-registry whose units are in a directory. errNoQuay when there is none. A
// unit may have been renamed with a suffix.
func FindQuay(ctx context.Context, unitDir, suffix string) (QuayInstall, error) {
	unit := filepath.Join(unitDir, "quay-app.service")
	if info, err := os.Lstat(unit); err != nil || !info.Mode().IsRegular() { // a link is the alias of ours
		unit += suffix
	}
	text, err := regular.ReadFile(unit)
	if errors.Is(err, fs.ErrNotExist) {
		if unit := findVersion3(unitDir); unit != "" {
			return QuayInstall{}, version3(unit)
		}
		return QuayInstall{}, hint.New(fmt.Errorf("%w: %s does not exist", errNoQuay, unit),
			"run the command as the user who installed it (root: with sudo), or name its directory: appliance adopt DIRECTORY")
	}
	if err != nil {
		return QuayInstall{}, err
	}
	volumes := volumesOf(string(text))
	conf := volumes["/quay-registry/conf/stack"]
	if conf == "" {
		return QuayInstall{}, hint.New(fmt.Errorf("%w: %s mounts nothing at /quay-registry/conf/stack", errNoQuay, unit),
			"name its directory: appliance adopt DIRECTORY")
	}
	q := QuayInstall{Root: filepath.Dir(conf)}
	if q.Storage, err = volumeDir(ctx, volumes["/datastorage"]); err == nil {
		q.Database, err = volumeDir(ctx, volumes["/sqlite"])
	}
	if err := q.configure(); err != nil { // which recognizes 1.x, without a volume for SQLite
		return q, err
	}
	return q, err
}

// OpenQuay is the mirror-registry in an install directory, without its units.
func OpenQuay(dir string) (QuayInstall, error) {
	if _, err := os.Stat(filepath.Join(dir, "quay.db")); err == nil {
		return QuayInstall{}, version3(dir)
	}
	q := QuayInstall{Root: dir, Storage: filepath.Join(dir, "quay-storage"), Database: filepath.Join(dir, "sqlite-storage")}
	return q, q.configure()
}

// findVersion3 returns the Quadlet unit of a mirror-registry 3, which is beside the directory of units.
func findVersion3(unitDir string) string {
	config := filepath.Dir(filepath.Dir(unitDir))
	if unitDir == "/etc/systemd/system" {
		config = "/etc"
	}
	found, _ := filepath.Glob(filepath.Join(config, "containers", "systemd", "quay*.container")) // a bad pattern
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

func version3(where string) error {
	return hint.New(fmt.Errorf("%s is of a mirror-registry 3: taking that over is not built yet", where),
		"mirror its images into an appliance on another port or host: appliance mirror")
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

// volumeDir returns the directory of a volume: a path, or the name of one of podman's.
func volumeDir(ctx context.Context, source string) (string, error) {
	if filepath.IsAbs(source) {
		return source, nil
	}
	if source == "" {
		return "", errors.New("the unit quay-app.service does not mount what a mirror-registry 2.x does")
	}
	out, err := exec.CommandContext(ctx, "podman", "volume", "inspect", "--format", "{{.Mountpoint}}", "--", source).Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || !filepath.IsAbs(dir) {
		return "", hint.New(fmt.Errorf("ask podman where the volume %s is: %w", source, errors.Join(err)),
			"see: podman volume inspect "+source)
	}
	return dir, nil
}

// quayConfig is what matters of Quay's config.yaml.
type quayConfig struct {
	Hostname string   `yaml:"SERVER_HOSTNAME"`
	Database string   `yaml:"DB_URI"`
	Secret   string   `yaml:"DATABASE_SECRET_KEY"`
	Supers   []string `yaml:"SUPER_USERS"`
	Public   *bool    `yaml:"FEATURE_ANONYMOUS_ACCESS"`
}

func readQuayConfig(root string) (c quayConfig, err error) {
	file := filepath.Join(root, "quay-config", "config.yaml")
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
	c, err := readQuayConfig(q.Root)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(c.Database, "sqlite:") {
		return hint.New(fmt.Errorf("the mirror-registry in %s is a 1.x, which has a PostgreSQL database", q.Root),
			"upgrade it to 2.x first, with the mirror-registry program of that version: ./mirror-registry upgrade")
	}
	q.Hostname, q.secret, q.supers = c.Hostname, c.Secret, c.Supers
	q.closed = c.Public != nil && !*c.Public
	return nil
}

// InitUser returns the name of a superuser, "" if there is none.
func (q QuayInstall) InitUser() string {
	if len(q.supers) == 0 {
		return ""
	}
	return q.supers[0]
}
