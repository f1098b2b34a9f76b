package support

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/systemd"
)

// Case is the appliance that an archive is about.
type Case struct {
	*installer.Traces
	Version string // of this program
	// Examine tells what doctor finds. The status is nil if the daemon does not answer.
	Examine func(ctx context.Context, tell func(finding.Finding)) (*api.Status, error)
	// Metrics returns those of the daemon.
	Metrics func(ctx context.Context) ([]byte, error)
}

// entry is a file of an archive.
type entry struct {
	name, text string
}

// collector collects the files of an archive, and what could not be collected.
type collector struct {
	Case
	entries  []entry
	missing  []string
	findings []finding.Finding
	secrets  *redactor
}

// Journal that goes into an archive, in lines.
const journalLines = "20000"

// Bundle writes an archive (tar, gzip) of all that tells how an appliance is, without secrets. What
// cannot be collected is listed in it, so that it works when the daemon is down. The error is that
// of writing, or of ctx.
func Bundle(ctx context.Context, w io.Writer, about Case, progress func(what string)) error {
	c := &collector{Case: about, secrets: newRedactor()}
	for _, file := range c.Secrets {
		if text, err := c.Host.ReadFile(file); err == nil {
			c.secrets.learnFile(text)
		}
	}
	for _, part := range []struct {
		what    string
		collect func(context.Context)
	}{
		{"configuration, record and units", c.files},
		{"doctor, status and metrics", c.daemon},
		{"database", c.database},
		{"journal", c.journal},
		{"host", c.host},
	} {
		progress(part.what)
		part.collect(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return c.write(w)
}

// add adds a file, or what it could not be made for.
func (c *collector) add(name, text string, err error) {
	if err != nil {
		c.missing = append(c.missing, name+": "+err.Error())
	}
	if text != "" {
		c.entries = append(c.entries, entry{name, text})
	}
}

func (c *collector) addJSON(name string, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	c.add(name, string(text)+"\n", err)
}

// files adds what the install has written.
func (c *collector) files(context.Context) {
	for _, file := range append([]string{c.Config, c.Record}, c.Units...) {
		text, err := c.Host.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && file == c.Record {
			continue // prepared, and not installed
		}
		name := filepath.Base(file)
		if slices.Contains(c.Units, file) {
			name = path.Join("units", name)
			if in := filepath.Base(filepath.Dir(file)); strings.HasSuffix(in, ".d") {
				name = path.Join("units", in, filepath.Base(file))
			}
		}
		c.add(name, string(text), err)
	}
}

// daemon adds what doctor finds, and what the daemon says.
func (c *collector) daemon(ctx context.Context) {
	status, err := c.Examine(ctx, func(f finding.Finding) { c.findings = append(c.findings, f) })
	c.addJSON("doctor.json", c.findings)
	if err != nil {
		c.missing = append(c.missing, "doctor.json: "+err.Error())
	}
	if status == nil {
		c.missing = append(c.missing, "status.json: the daemon does not answer")
	} else {
		c.addJSON("status.json", status)
	}
	metrics, err := c.Metrics(ctx)
	c.add("metrics.txt", string(metrics), err)
}

// journal adds the journal of the units, their state, and the environment of the daemon.
func (c *collector) journal(ctx context.Context) {
	if len(c.Units) == 0 {
		c.missing = append(c.missing, "journal.txt: the appliance is not installed as a service")
		return
	}
	scope := func(args ...string) []string {
		if c.User {
			return append([]string{"--user"}, args...)
		}
		return args
	}
	text, err := c.Host.Run(ctx, "journalctl", scope("--unit", systemd.Service, "--unit", systemd.Socket,
		"--lines", journalLines, "--no-pager", "--output", "short-iso")...)
	c.add("journal.txt", string(text), err)
	text, err = c.Host.Run(ctx, "systemctl", scope("show", systemd.Service, systemd.Socket, "--no-pager")...)
	c.add("systemctl-show.txt", string(text), err)
	for line := range strings.Lines(string(text)) {
		if pid, ok := strings.CutPrefix(strings.TrimSpace(line), "MainPID="); ok && pid != "0" {
			environment, err := c.Host.ReadFile("/proc/" + pid + "/environ")
			c.add("environment.txt", variables(string(environment)), err)
			break
		}
	}
}

// write removes the secrets and writes the archive.
func (c *collector) write(w io.Writer) error {
	about := fmt.Sprintf(`Support bundle of an appliance, of %s, by version %s.

Passwords, tokens, logins, keys, hashes and parameters of signed URLs are replaced by %s. Names of hosts, users,
repositories and paths are not: look through it before you give it to others.
`, time.Now().UTC().Format(time.RFC3339), c.Version, removed)
	if len(c.missing) > 0 {
		about += "\nNot collected:\n  " + strings.Join(c.missing, "\n  ") + "\n"
	}
	all := append([]entry{{"README.txt", about}}, c.entries...)
	for _, e := range all {
		c.secrets.learnFrom(e.text)
	}
	zipped := gzip.NewWriter(w)
	tarred := tar.NewWriter(zipped)
	for _, e := range all {
		text := e.text
		if strings.HasPrefix(e.name, "units/") || e.name == "systemctl-show.txt" {
			text = unitVariables(text)
		}
		text = c.secrets.text(text)
		header := &tar.Header{Name: "appliance-support/" + e.name, Mode: 0o600, Size: int64(len(text)), ModTime: time.Now()}
		if err := tarred.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.WriteString(tarred, text); err != nil {
			return err
		}
	}
	return errors.Join(tarred.Close(), zipped.Close())
}
