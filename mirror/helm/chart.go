package helm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// chartsDir is the directory of the workspace for charts.
const chartsDir = "helm/charts"

// maxChart bounds the archive of a chart. Helm refuses one that has more than 100 MiB unpacked.
const maxChart = 64 << 20

// wanted is a chart that the configuration asks for.
type wanted struct {
	chart      imageset.Chart
	at         string // the line of the configuration
	repository imageset.HelmRepository
	entry      *entry // in the index of its repository; nil for other charts
}

func (w wanted) String() string {
	switch {
	case w.chart.Name == "":
		return w.chart.Path
	case w.chart.Version == "":
		return w.chart.Name
	}
	return w.chart.Name + " " + w.chart.Version
}

// session is one collection.
type session struct {
	*Collector
	indexes map[string]*index // by address
}

// local lists the charts of this host.
func (s *session) local() []wanted {
	var all []wanted
	for i, c := range s.Config.Mirror.Helm.Local {
		all = append(all, wanted{chart: c, at: s.Config.At(fmt.Sprintf("mirror.helm.local[%d]", i))})
	}
	return all
}

// load reads a chart. What is remarkable about it is a warning.
func (s *session) load(ctx context.Context, w wanted) (c Chart, warnings []string, err error) {
	switch {
	case w.local():
		c, err = s.loadLocal(w.chart.Path)
	case s.Offline:
		c.Archive, err = s.kept(w)
	case w.entry == nil:
		c.Archive, err = s.pull(ctx, w)
	default:
		c.Archive, warnings, err = s.download(ctx, w)
	}
	return c, warnings, err
}

func (w wanted) local() bool { return w.repository.URL == "" }

// loadLocal reads a chart of this host: a directory, or an archive, which a run without network has
// in the workspace too.
func (s *session) loadLocal(name string) (Chart, error) {
	about, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.Offline:
		data, missing := s.unpack(filepath.Base(name))
		if errors.Is(missing, fs.ErrNotExist) {
			missing = notHere(err)
		}
		return Chart{Archive: data}, missing
	case err != nil:
		return Chart{}, notHere(err)
	case about.IsDir():
		return Chart{Dir: name}, nil
	case !about.Mode().IsRegular() || about.Size() > maxChart:
		return Chart{}, fmt.Errorf("%s is not the archive of a chart: it is not a regular file, or has more than %d bytes", name, maxChart)
	}
	data, err := os.ReadFile(name)
	return Chart{Archive: data}, err
}

func notHere(err error) error {
	return hint.New(err, "the path of a local chart is relative to the directory that the command is started in")
}

// keep writes a chart to the workspace. A local one keeps the name of its file, which is all that
// is known of it where that file is not.
func (s *session) keep(w wanted, r Rendered, data []byte) error {
	switch {
	case w.local():
		return s.write(filepath.Base(w.chart.Path), data)
	case w.entry != nil:
		return s.write(w.entry.Name+"-"+w.entry.Version+".tgz", data)
	}
	return s.write(w.chart.Name+"-"+r.Version+".tgz", data)
}

func (s *session) write(file string, data []byte) error {
	if strings.ContainsAny(file, `/\`) {
		return fmt.Errorf("%q is not a name for a chart", file)
	}
	if held, err := s.Files.Read(path.Join(chartsDir, file)); err == nil && bytes.Equal(held, data) {
		return nil
	}
	if err := s.Files.Write(path.Join(chartsDir, file), data); err != nil {
		return &unwrittenError{err}
	}
	return nil
}

// unpack reads a chart of the archive that is mirrored from, and writes it to the workspace: it is
// installed from there where nothing else has it.
func (s *session) unpack(file string) ([]byte, error) {
	name := path.Join(chartsDir, file)
	data, err := s.Files.Read(name)
	if err != nil {
		return nil, err
	}
	if err := s.Files.Write(name, data); err != nil {
		return nil, &unwrittenError{err}
	}
	return data, nil
}

// kept reads a chart without a network.
func (s *session) kept(w wanted) ([]byte, error) {
	tried, err := s.keptNames(w.chart)
	if err != nil {
		return nil, err
	}
	for _, file := range tried {
		data, err := s.unpack(file)
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	err = fmt.Errorf("chart file not found for %s version %s: tried %s", w.chart.Name,
		w.chart.Version, strings.Join(tried, ", "))
	if len(tried) == 0 {
		err = fmt.Errorf("chart file not found for %s: no version in %s", w, chartsDir)
	}
	return nil, hint.New(err, "mirror the chart where there is a network, and bring the archive of that run")
}

// keptNames returns the files that a chart may be in, the best first.
func (s *session) keptNames(c imageset.Chart) (names []string, err error) {
	if bare := strings.TrimPrefix(c.Version, "v"); versionForm(bare) {
		names = []string{c.Name + "-" + bare + ".tgz", c.Name + "-v" + bare + ".tgz"}
	}
	files, err := s.Files.List(chartsDir)
	if err != nil {
		return nil, err
	}
	var versions []string
	for _, file := range files {
		rest, ok := strings.CutSuffix(file, ".tgz")
		if version, of := strings.CutPrefix(rest, c.Name+"-"); ok && of && exact(version) {
			versions = append(versions, version)
		}
	}
	best, err := choose(versions, c.Version)
	if err != nil || best == "" {
		return names, err
	}
	return append(names, c.Name+"-"+best+".tgz"), nil
}

// heldAlready returns the archive of a chart from the workspace, if it is the one that the index
// names.
func (s *session) heldAlready(e *entry) []byte {
	if e.Digest == "" {
		return nil
	}
	data, err := s.Files.Read(path.Join(chartsDir, e.Name+"-"+e.Version+".tgz"))
	if err != nil || digest.SHA256.FromBytes(data).Encoded() != e.Digest {
		return nil
	}
	return data
}
