package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// sayFetched is how often a mirror without a bar prints how many bytes were fetched.
const sayFetched = 10 * time.Second

// progress prints the progress of a mirror: bars on a terminal, a line for each image elsewhere,
// and an event for each step where scripts read it.
type progress struct {
	out    io.Writer // stderr when stdout has JSON
	plugin bool      // with oc-mirror's lines
	host   string    // of the destination
	json   *jsonEvents
	bars   *bars // nil unless out is a terminal

	ticked  func()       // ends the lines about bytes
	fetched atomic.Int64 // bytes
	held    atomic.Int64 // images that existed already
	warned  int          // warnings printed

	resolved atomic.Int64 // images planned
	lastLine atomic.Int64 // when a line was last printed
	began    time.Time
	mu       sync.Mutex // one line at a time
}

func newProgress(std stdio, json, plugin bool) *progress {
	p := &progress{out: std.out, plugin: plugin, began: time.Now()}
	if json {
		p.out, p.json = std.err, &jsonEvents{to: std.out}
	}
	p.lastLine.Store(p.began.UnixNano())
	if isTerminal(p.out) {
		p.bars = &bars{out: p.out}
	}
	return p
}

func (p *progress) say(format string, args ...any) { p.line(info, fmt.Sprintf(format, args...)) }

// line prints a text, which oc-mirror's scripts find at its level.
func (p *progress) line(level, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastLine.Store(time.Now().UnixNano())
	text = plain.Text(text)
	if p.plugin {
		text = logLine(time.Now(), level, text)
	}
	fmt.Fprintln(p.bars.above(p.out), text)
}

// name is say for a line with names, which an upstream has chosen: they stay on the line.
func (p *progress) name(format string, args ...any) {
	p.say("%s", plain.Line(fmt.Sprintf(format, args...)))
}

// warn prints those of a run's warnings that it has not printed.
func (p *progress) warn(all []string) {
	for _, w := range all[min(p.warned, len(all)):] {
		p.line(warning, "warning: "+w)
	}
	p.warned = len(all)
}

// plan prints a plan, with the sizes of so many operators of each catalog.
func (p *progress) plan(of *plan.Plan, operators int) {
	p.warn(of.Warnings)
	if names := blockedNames(of.Blocked); len(names) > 0 {
		p.name("blocked: %s (%s)", count(len(names), "image"), plain.List(names, listedBlocked))
	}
	p.say("%s, %d blobs, %s", count(len(of.Images), "image"), of.Blobs, sizes(of.Bytes, of.Held, of.Missing))
	for _, c := range of.Catalogs {
		p.name("catalog %s: %s, %s", c.Catalog, count(c.Images, "image"), sizes(c.Bytes, c.Held, c.Missing))
		for n, one := range c.Packages {
			if n == operators {
				p.say("  and %s; --dry-run prints all", count(len(c.Packages)-n, "smaller operator"))
				break
			}
			p.name("  operator %s: %s, %s", one.Package, count(one.Images, "image"), sizes(one.Bytes, one.Held, one.Missing))
		}
	}
	for _, s := range of.Space {
		kept := ""
		if s.Kept > 0 {
			kept = fmt.Sprintf(", besides %s that are kept free (minFree)", bytesOf(s.Kept))
		}
		p.say("%s: %s needed, %s free%s", plain.Line(s.Where), bytesOf(s.Needs), bytesOf(s.Free), kept)
	}
}

func sizes(all, held, missing int64) string {
	return fmt.Sprintf("%s: %s held, %s to copy", bytesOf(all), bytesOf(held), bytesOf(missing))
}

// listedBlocked is how many blocked images are printed; the report has all.
const listedBlocked = 5

func blockedNames(images []*plan.Image) (names []string) {
	for _, i := range images {
		names = append(names, i.Origin)
	}
	return names
}

func (p *progress) start(of *plan.Plan) {
	if p.plugin {
		p.say("🚀 Start copying the images...")
		p.say("📌 images to copy %d ", len(of.Images))
	}
	p.bars.start(of.Missing)
	interval := sayFetched
	if p.json != nil {
		interval = tellFetched
	}
	p.ticked = every(interval, func() { p.copying(of) })
}

// every calls say at intervals, until the function that it returns is called.
func every(interval time.Duration, say func()) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				say()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// copying prints how many bytes were fetched, unless another line was printed since.
func (p *progress) copying(of *plan.Plan) {
	p.json.fetched(p.fetched.Load(), of.Missing)
	if p.bars == nil && time.Since(time.Unix(0, p.lastLine.Load())) >= sayFetched {
		p.say("fetched %s of %s", bytesOf(p.fetched.Load()), bytesOf(of.Missing))
	}
}

func (p *progress) stop() {
	if p.ticked != nil {
		p.ticked()
	}
	p.bars.stop()
}

// event is called from several goroutines.
func (p *progress) event(e mirror.Event) {
	p.json.event(e)
	p.bars.event(e)
	switch e.Kind {
	case mirror.Resolved:
		p.planning()
	case mirror.Planned:
		p.plan(e.Plan, listed)
		p.start(e.Plan)
	case mirror.Bytes:
		p.fetched.Add(e.Bytes)
	case mirror.Done:
		if p.plugin {
			p.name("Success copying %s ➡️ %s", e.Image.Origin, p.namespace(e.Image.Repository))
			return
		}
		p.name("copied %s to %s:%s", e.Image.Origin, e.Image.Repository, e.Image.Tag)
	case mirror.Existed:
		p.held.Add(1)
	case mirror.Failed:
		text := "FAILED %s %s"
		if p.plugin {
			text = "Failed to copy %s %s"
		}
		p.line(bad, plain.Line(fmt.Sprintf(text, e.Image.Type, e.Image.Origin)))
	case mirror.Started:
	}
}

// planning prints now and then how many images are planned: a release has some two hundred.
func (p *progress) planning() {
	n := p.resolved.Add(1)
	last := p.lastLine.Load()
	if now := time.Now().UnixNano(); now-last > int64(2*time.Second) && p.lastLine.CompareAndSwap(last, now) {
		p.say("planning: %s so far", count(int(n), "image"))
	}
}

func (p *progress) failure(f plan.Failure) {
	// An error may have lines of an upstream: none of them begins like a line of this program.
	p.line(bad, fmt.Sprintf("failed: %s\n        %s",
		plain.Line(fmt.Sprintf("%s (%s)", f.Image.Origin, f.Image.Reason)),
		strings.ReplaceAll(f.Error, "\n", "\n        ")))
	if h := hintOf(f.Cause); h != "" {
		p.say("        hint: %s", h)
	}
}

// listed is how many images without signature are printed, and operators of a catalog; the report has
// all of the former, a dry run of the latter.
const listed = 20

// unsigned lists images that are not signed.
func (p *progress) unsigned(images []*plan.Image) {
	for i, image := range images {
		if i == listed {
			p.line(warning, fmt.Sprintf("not signed: %d more, see the report", len(images)-listed))
			return
		}
		name := image.Origin
		if image.Type == plan.Release {
			name = "release " + image.Release + ", " + name
		}
		p.line(warning, plain.Line(fmt.Sprintf("not signed: %s (%s): %s", name, image.Reason,
			strings.Join(image.Unsigned, "; "))))
	}
}

// toApply prints the commands that apply the resources to a cluster. With both generations of resources a cluster would
// list the packages of each catalog twice.
func (p *progress) toApply(r *mirror.Report) {
	first := "apply to the cluster: oc apply -f %s"
	if len(r.ResourcesV1) > 0 {
		first = "apply to the cluster either, as version 2 has it: oc apply -f %s"
	}
	for _, file := range r.Resources {
		if !strings.HasSuffix(file, ".json") { // which says the same as the .yaml beside it
			p.name(first, file)
		}
	}
	for _, file := range r.ResourcesV1 {
		p.name("or, and not both, as version 1 has it: oc apply -f %s", file)
	}
}

// results prints the outcome, with the lines that scripts around oc-mirror search for.
func (p *progress) results(r *mirror.Report) {
	p.warn(r.Warnings)
	incomplete := map[string]bool{}
	for _, f := range r.Failures {
		if !f.Consequence {
			p.failure(f)
		}
		if f.Incomplete != "" {
			incomplete[f.Incomplete] = true
		}
	}
	for _, what := range slices.Sorted(maps.Keys(incomplete)) {
		text := "incomplete: " + what
		if strings.HasPrefix(what, "release ") { // and not releases of a channel, of which none is known
			text += "; its payload was not tagged"
		}
		p.name("%s", text)
	}
	p.unsigned(plan.Unsigned(r.Mirrored))
	if n := p.held.Load(); n > 0 {
		p.say("%s needed no copying: held already, or the same as another", count(int(n), "image"))
	}
	p.say("=== Results ===")
	for _, of := range r.Results() {
		if of.Mirrored == of.Planned {
			p.say(" ✓  %d / %d %s images mirrored successfully", of.Mirrored, of.Planned, of.Label)
		} else {
			p.say(" ✗  %d / %d %s images mirrored: Some %s images failed to be mirrored - please check the logs", of.Mirrored, of.Planned, of.Label, of.Label)
		}
	}
	p.toApply(r)
	for n, file := range r.Pinned {
		p.name("Pinned %s written to: %s", []string{"ISC", "DISC"}[n%2], file)
	}
	report := ""
	if r.File != "" {
		report = "; report: " + r.File
	}
	p.say("fetched %s in %s%s", bytesOf(p.fetched.Load()), time.Since(p.began).Round(100*time.Millisecond), report)
}
