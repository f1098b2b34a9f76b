package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

type options struct {
	rows     []string
	rounds   int
	scale    int
	blobSize int64
	dir      string
	json     string
	profile  string
	peers    bool

	appliance string
}

func (o *options) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.rows, "rows", groupNames(), "what to measure")
	f.IntVar(&o.rounds, "rounds", 7, "rounds in which subject and probe take turns")
	f.IntVar(&o.scale, "scale", 100_000, "manifests in the large database, with five references each")
	f.Int64Var(&o.blobSize, "blob", 100_000_000, "bytes of a large blob")
	f.StringVar(&o.dir, "dir", "/var/tmp", "where to make the working directory: on the disk to be measured, not in memory")
	f.StringVar(&o.json, "json", "bench.json", "file to write the figures to; empty for none")
	f.StringVar(&o.profile, "profile", "", "directory for CPU profiles of the subject")
	f.BoolVar(&o.peers, "peers", true, "run the loads against registry, zot and oc-mirror too, where they are on PATH")
	f.StringVar(&o.appliance, "appliance", "bin/appliance", "the program that mirrors")
}

// A group is rows that are measured together.
type group struct {
	name    string
	measure func(context.Context, *bench) ([]row, error)
}

func groups() []group {
	return []group{
		{"manifest", measureManifests},
		{"any", measureAny},
		{"get", measureGets},
		{"put", measurePuts},
		{"images", measureImages},
		{"link", measureLink},
		{"push", measurePushers},
		{"gc", measureCollection},
		{"cold", measureCold},
		{"scale", measureScale},
		{"updates", measureUpdates},
		{"memory", measureMemory},
		{"mirror", measureMirror},
		{"operators", measureOperators},
	}
}

func groupNames() []string {
	var names []string
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return names
}

// bench is what the rows share.
type bench struct {
	options
	site     *site
	progress io.Writer
}

func run(ctx context.Context, out io.Writer, o options) (err error) {
	for _, name := range o.rows {
		if !slices.Contains(groupNames(), name) {
			return fmt.Errorf("--rows %s is not known: there are %s", name, strings.Join(groupNames(), ", "))
		}
	}
	if o.rounds < 1 || o.scale < 1000 || o.blobSize < 1<<20 {
		return errors.New("too little to measure: --rounds is at least 1, --scale 1000, --blob 1 MiB")
	}
	dir, err := os.MkdirTemp(o.dir, "appliance-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := newSite(dir)
	if err != nil {
		return err
	}
	b := &bench{options: o, site: s, progress: os.Stderr}
	r := newReport(b)
	for _, g := range groups() {
		if !slices.Contains(o.rows, g.name) {
			continue
		}
		began := time.Now()
		rows, err := g.measure(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		fmt.Fprintf(b.progress, "%s: %s\n", g.name, time.Since(began).Round(time.Second))
		r.Rows = append(r.Rows, rows...)
	}
	r.print(out)
	return r.write(o.json)
}
