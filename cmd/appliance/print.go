package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// addOutputFlag adds -o as oc and kubectl have it.
func addOutputFlag(f *pflag.FlagSet, output *string) {
	f.StringVarP(output, "output", "o", "", "json for scripts")
}

func checkOutput(output string) error {
	if output != "" && output != "json" {
		return hint.New(fmt.Errorf("--output %q is not known", output), "leave it out, or use --output json")
	}
	return nil
}

// show prints v as JSON, if that is asked for, or as print does.
func show[T any](w io.Writer, output string, v T, print func(io.Writer, T)) error {
	if output == "json" {
		return printJSON(w, v)
	}
	print(w, v)
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// addRateFlag adds the flag that parseRate reads; verb is what is slowed down.
func addRateFlag(f *pflag.FlagSet, rate *string, verb string) {
	f.StringVar(rate, "rate", "", verb+" no faster than this per second, such as 50MB (default: as fast as it goes)")
}

func parseRate(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	rate, err := humanize.ParseBytes(text)
	if err != nil || rate == 0 || rate > 1<<50 {
		return 0, hint.New(fmt.Errorf("--rate %q is no number of bytes per second", text), "for example --rate 50MB")
	}
	return int64(rate), nil
}

// sayEvery is how often the progress of a job is printed. The daemon reports it each second, and not exactly on the second.
const sayEvery = 1500 * time.Millisecond

// nowAndThen returns a function that prints the progress of a job, a line each two seconds, on a terminal and in a pipe. Of a
// short job it prints nothing.
func nowAndThen(w io.Writer) func(format string, args ...any) {
	last := time.Now()
	return func(format string, args ...any) {
		if time.Since(last) < sayEvery {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, format+"\n", args...)
	}
}

func bytesOf(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func when(t time.Time) string { return t.Local().Format(time.DateTime) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func garbage(g gc.Result) string {
	return fmt.Sprintf("%s, %s, %s", count(g.Blobs, "blob"), count(g.Uploads, "unfinished upload"), count(g.Runs, "abandoned sync"))
}

// howFar is how much of the store a scrub has read.
func howFar(s api.ScrubState) string {
	return fmt.Sprintf("%d of %s, %s of %s read, %d damaged, %d of them repaired",
		s.Blobs, count(int(s.Of.Blobs), "blob"), bytesOf(s.Bytes), bytesOf(s.Of.Bytes), s.Damaged, s.Repaired)
}
