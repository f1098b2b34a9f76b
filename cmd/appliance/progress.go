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

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// sayFetched is how often a mirror without a bar prints how many bytes were fetched.
const sayFetched = 10 * time.Second

// progress prints the progress of a mirror: a bar on a terminal, a line for each image elsewhere.
type progress struct {
	out  io.Writer // stderr when stdout has JSON
	bars bool

	ticked  func() // ends the lines about bytes
	pool    *mpb.Progress
	bar     *mpb.Bar
	fetched atomic.Int64
	held    atomic.Int64 // images that existed already

	resolved atomic.Int64 // images planned
	lastLine atomic.Int64 // when a line was last printed
	began    time.Time
	mu       sync.Mutex // one line at a time
}

func newProgress(std stdio, json bool) *progress {
	p := &progress{out: std.out, began: time.Now()}
	if json {
		p.out = std.err
	}
	p.lastLine.Store(p.began.UnixNano())
	p.bars = isTerminal(p.out)
	return p
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastLine.Store(time.Now().UnixNano())
	fmt.Fprintln(p.writer(), plain.Text(fmt.Sprintf(format, args...)))
}

// name is say for a line with names, which an upstream has chosen: they stay on the line.
func (p *progress) name(format string, args ...any) {
	p.say("%s", plain.Line(fmt.Sprintf(format, args...)))
}

// writer returns where lines go: above the bar, while there is one.
func (p *progress) writer() io.Writer {
	if p.pool != nil {
		return p.pool
	}
	return p.out
}

func (p *progress) plan(of *plan.Plan) {
	for _, w := range of.Warnings {
		p.say("warning: %s", w)
	}
	p.say("%s, %d blobs, %s; %s of it to fetch", count(len(of.Images), "image"), of.Blobs, bytesOf(of.Bytes), bytesOf(of.Missing))
}

func (p *progress) start(of *plan.Plan) {
	if !p.bars {
		p.ticked = every(sayFetched, func() { p.copying(of) })
		return
	}
	p.pool = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(60))
	p.bar = p.pool.AddBar(of.Missing,
		mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.EwmaSpeed(decor.SizeB1024(0), " % .1f", 30), decor.OnComplete(decor.EwmaETA(decor.ET_STYLE_GO, 30), "")),
	)
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
	if time.Since(time.Unix(0, p.lastLine.Load())) >= sayFetched {
		p.say("fetched %s of %s", bytesOf(p.fetched.Load()), bytesOf(of.Missing))
	}
}

func (p *progress) stop() {
	if p.ticked != nil {
		p.ticked()
	}
	if p.pool == nil {
		return
	}
	p.bar.Abort(false)
	p.pool.Wait()
	p.pool = nil
}

// event is called from several goroutines.
func (p *progress) event(e mirror.Event) {
	switch e.Kind {
	case mirror.Resolved:
		p.planning()
	case mirror.Planned:
		p.plan(e.Plan)
		p.start(e.Plan)
	case mirror.Bytes:
		p.fetched.Add(e.Bytes)
		if p.bar != nil {
			p.bar.IncrInt64(e.Bytes)
		}
	case mirror.Done:
		p.name("copied %s to %s:%s", e.Image.Origin, e.Image.Repository, e.Image.Tag)
	case mirror.Existed:
		p.held.Add(1)
	case mirror.Failed:
		p.name("FAILED %s %s", e.Image.Type, e.Image.Origin)
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
	p.say("failed: %s\n        %s", plain.Line(fmt.Sprintf("%s (%s)", f.Image.Origin, f.Image.Reason)), strings.ReplaceAll(f.Error, "\n", "\n        "))
	if h := hintOf(f.Cause); h != "" {
		p.say("        hint: %s", h)
	}
}

// results prints the outcome, with the lines that scripts around oc-mirror search for.
func (p *progress) results(r *mirror.Report) {
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
		p.name("incomplete: %s; none of its tags was set", what)
	}
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
	for _, file := range r.Resources {
		p.name("apply to the cluster: oc apply -f %s", file)
	}
	report := ""
	if r.File != "" {
		report = "; report: " + r.File
	}
	p.say("fetched %s in %s%s", bytesOf(p.fetched.Load()), time.Since(p.began).Round(100*time.Millisecond), report)
}
