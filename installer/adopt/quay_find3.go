package adopt

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// The names that a mirror-registry 3 has for its files, whatever its flags.
const (
	quadletName = "quay.container"
	database3   = "quay.db"
	mounted3    = "/data" // its directory, as its container and so its configuration sees it
)

// QuadletFile returns the file from which systemd makes the unit of a mirror-registry 3, which is not
// in the directory of units.
func QuadletFile(unitDir string) string {
	config := filepath.Dir(filepath.Dir(unitDir))
	if unitDir == "/etc/systemd/system" {
		config = "/etc"
	}
	return filepath.Join(config, "containers", "systemd", quadletName)
}

// IsQuadlet reports whether a Quadlet file is of a mirror-registry 3, and not of another Quay.
func IsQuadlet(text string) bool {
	q := parseQuadlet(text)
	return q.data != "" && len(q.exec) > 0 && q.exec[0] == "serve"
}

// isVersion3 reports whether a directory is that of a mirror-registry 3.
func isVersion3(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, database3))
	return err == nil && info.Mode().IsRegular()
}

// quadlet is what a Quadlet file has.
type quadlet struct {
	image string
	data  string // what is mounted as the directory
	port  string // of the host
	exec  []string
}

func parseQuadlet(text string) (q quadlet) {
	lines := bufio.NewScanner(strings.NewReader(strings.ReplaceAll(text, "\\\n", " ")))
	for lines.Scan() {
		key, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "Image":
			q.image = value
		case "Volume":
			if parts := strings.Split(value, ":"); len(parts) >= 2 && parts[1] == mounted3 {
				q.data = parts[0]
			}
		case "PublishPort": // [[ADDRESS:]PORT:]PORT
			if parts := strings.Split(value, ":"); len(parts) >= 2 {
				q.port = parts[len(parts)-2]
			}
		case "Exec":
			q.exec = strings.Fields(value)
		}
	}
	return q
}

// flag returns the value of a flag of the command, "" without it.
func (q quadlet) flag(name string) string {
	for i, word := range q.exec {
		given, value, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
		switch {
		case !strings.HasPrefix(word, "-") || given != name:
		case joined:
			return value
		case i+1 < len(q.exec):
			return q.exec[i+1]
		}
	}
	return ""
}

// findVersion3 finds the mirror-registry of a Quadlet file, if that is found. The file may have been
// renamed with a suffix.
func findVersion3(ctx context.Context, file, suffix string) (q QuayInstall, found bool, err error) {
	text, err := regular.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		file += suffix
		text, err = regular.ReadFile(file)
	}
	if err != nil {
		return q, !errors.Is(err, fs.ErrNotExist), err
	}
	if !IsQuadlet(string(text)) {
		return q, true, hint.New(fmt.Errorf("%w: %s is of another program: it does not mount %s, or does not run serve",
			errNoQuay, file, mounted3), "name the directory of the mirror-registry: appliance adopt DIRECTORY")
	}
	unit := parseQuadlet(string(text))
	root, err := volumeDir(ctx, unit.data, filepath.Dir(file))
	if err != nil {
		return q, true, err
	}
	q = version3(root)
	err = q.address(unit)
	return q, true, err
}

// address takes hostname and port, and with a configuration what else that says.
func (q *QuayInstall) address(unit quadlet) error {
	hostname := unit.flag("hostname")
	if file := unit.flag("config"); file != "" {
		file, err := q.hostPath(file)
		if err != nil {
			return err
		}
		if err := q.configure3(filepath.Dir(file)); err != nil {
			return err
		}
		hostname = cmp.Or(q.Hostname, hostname)
	}
	if host, _, err := net.SplitHostPort(hostname); err == nil {
		hostname = host
	}
	if q.Hostname = hostname; unit.port != "" {
		q.Hostname = net.JoinHostPort(hostname, unit.port)
	}
	return nil
}

// version3 is the mirror-registry in a directory, without a configuration.
func version3(dir string) QuayInstall {
	return QuayInstall{Version3: true, Root: dir, Storage: filepath.Join(dir, "storage"),
		Database: filepath.Join(dir, database3), first: true}
}

// configure3 reads the configuration, which a mirror-registry 3 has that was a 2.x before.
func (q *QuayInstall) configure3(dir string) error {
	c, err := readQuayConfig(dir)
	if err != nil {
		return err
	}
	q.Hostname, q.first = c.Hostname, false
	q.take(c)
	if q.Database, err = q.hostPath(strings.TrimPrefix(c.Database, "sqlite:///")); err != nil {
		return err
	}
	for _, engine := range c.Storage { // one: it takes no more
		if len(engine) < 2 {
			continue
		}
		params, _ := engine[1].(map[string]any)
		if path, ok := params["storage_path"].(string); ok {
			if q.Storage, err = q.hostPath(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// hostPath returns where a path is on the host that the container has.
func (q QuayInstall) hostPath(path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(mounted3, path)
	}
	rel, err := filepath.Rel(mounted3, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("the mirror-registry in %s uses %s, which is not in %s of its container", q.Root, path, mounted3)
	}
	return filepath.Join(q.Root, rel), nil
}
