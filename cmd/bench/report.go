package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"
)

// A row is one figure. Ratio is what Target is about, unless the target is about Value itself.
type row struct {
	What    string             `json:"what"`
	Unit    string             `json:"unit"`
	Value   float64            `json:"value"`
	Probe   float64            `json:"probe,omitempty"` // 0: there is none
	Ratio   float64            `json:"ratio,omitempty"`
	Spread  []float64          `json:"spread,omitempty"` // lowest and highest ratio of a round
	Target  string             `json:"target,omitempty"`
	Verdict string             `json:"verdict,omitempty"`
	Peers   map[string]float64 `json:"peers,omitempty"` // the same figure of others, by program
	Note    string             `json:"note,omitempty"`
}

const (
	met    = "met"
	missed = "MISSED"
	absent = "not measured"
)

func verdict(ok bool) string {
	if ok {
		return met
	}
	return missed
}

// atLeast and atMost judge a row's ratio.
func (r row) atLeast(ratio float64) row {
	r.Target, r.Verdict = fmt.Sprintf("ratio ≥ %g", ratio), verdict(r.Ratio >= ratio)
	return r
}

func (r row) atMost(ratio float64) row {
	r.Target, r.Verdict = fmt.Sprintf("ratio ≤ %g", ratio), verdict(r.Ratio <= ratio)
	return r
}

// under judges a row's value.
func (r row) under(limit float64) row {
	r.Target, r.Verdict = fmt.Sprintf("< %g %s", limit, r.Unit), verdict(r.Value < limit)
	return r
}

// none judges a count of what must not happen.
func (r row) none() row {
	r.Target, r.Verdict = "0", verdict(r.Value == 0)
	return r
}

type report struct {
	When    time.Time `json:"when"`
	Machine string    `json:"machine"`
	Go      string    `json:"go"`
	Commit  string    `json:"commit,omitempty"`
	Rows    []row     `json:"rows"`
}

func newReport(b *bench) *report {
	r := &report{When: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), Machine: machine(b.site.dir)}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				r.Commit = s.Value
			}
		}
	}
	return r
}

func machine(dir string) string {
	cpu := "unknown CPU"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, load %s, files on %s", runtime.NumCPU(), cpu, load(), fsType(dir))
}

func load() string {
	avg, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(avg), " ")
	return first
}

func (r *report) print(out io.Writer) {
	peers := r.peers()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(append([]string{"what", "value", "probe", "ratio", "of rounds", "target", "verdict"}, peers...), "\t"))
	for _, x := range r.Rows {
		cells := []string{x.What, number(x.Value) + " " + x.Unit, blank(x.Probe), ratioText(x.Ratio), spreadText(x.Spread), x.Target, x.Verdict}
		for _, p := range peers {
			cells = append(cells, blank(x.Peers[p]))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush()
	fmt.Fprintf(out, "\n%s, %s\n", r.Machine, r.Go)
	r.printNotes(out)
}

// printNotes says how it was measured, and where it fell short.
func (r *report) printNotes(out io.Writer) {
	for _, x := range r.Rows {
		if x.Note != "" {
			fmt.Fprintf(out, "%s: %s\n", x.What, x.Note)
		}
	}
	var short []string
	for _, x := range r.Rows {
		if x.Verdict == missed {
			short = append(short, fmt.Sprintf("  %s: %s", x.What, x.shortfall()))
		}
	}
	if len(short) == 0 {
		fmt.Fprintln(out, "No target that was measured was missed.")
		return
	}
	fmt.Fprintf(out, "Fell short on:\n%s\n", strings.Join(short, "\n"))
}

func (r row) shortfall() string {
	if strings.HasPrefix(r.Target, "ratio") {
		return fmt.Sprintf("ratio %s, wanted %s", ratioText(r.Ratio), strings.TrimPrefix(r.Target, "ratio "))
	}
	return fmt.Sprintf("%s %s, wanted %s", number(r.Value), r.Unit, r.Target)
}

// peers are the programs that any row has a figure of.
func (r *report) peers() []string {
	var names []string
	for _, name := range []string{distributionProgram, zotProgram} {
		for _, x := range r.Rows {
			if _, ok := x.Peers[name]; ok {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

func (r *report) write(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// blank is a number, if there is one.
func blank(v float64) string {
	if v == 0 {
		return ""
	}
	return number(v)
}

func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func spreadText(s []float64) string {
	if len(s) != 2 {
		return ""
	}
	return ratioText(s[0]) + "–" + ratioText(s[1])
}

func ratioText(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", v)
}
