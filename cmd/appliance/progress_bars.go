package main

import (
	"io"
	"math"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// bars are drawn on a terminal: one for each image that is copied, and below them one for all. A
// nil *bars draws nothing.
type bars struct {
	out io.Writer

	mu     sync.Mutex // guards the rest
	pool   *mpb.Progress
	all    *mpb.Bar
	images map[*plan.Image]*mpb.Bar
}

// above returns where lines go: above the bars, while there are any.
func (b *bars) above(out io.Writer) io.Writer {
	if b == nil {
		return out
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pool == nil {
		return out
	}
	return b.pool
}

// start draws the bar for all images.
func (b *bars) start(bytes int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images = map[*plan.Image]*mpb.Bar{}
	b.pool = mpb.New(mpb.WithOutput(b.out), mpb.WithWidth(60))
	b.all = b.pool.AddBar(bytes, mpb.BarPriority(math.MaxInt),
		mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(
			decor.Percentage(decor.WC{W: 5}), decor.AverageSpeed(decor.SizeB1024(0), " % .1f"),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), "")),
	)
}

// event moves the bars.
func (b *bars) event(e mirror.Event) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pool == nil {
		return
	}
	switch e.Kind {
	case mirror.Started:
		b.images[e.Image] = b.image(e.Image)
	case mirror.Bytes:
		b.all.IncrInt64(e.Bytes)
		if bar := b.images[e.Image]; bar != nil {
			bar.IncrInt64(e.Bytes)
		}
	case mirror.Done, mirror.Existed, mirror.Failed:
		if bar := b.images[e.Image]; bar != nil {
			bar.Abort(true)
			delete(b.images, e.Image)
		}
	case mirror.Resolved, mirror.Planned:
	}
}

// image draws the bar for an image. It does not reach its end if some of the image exists already.
func (b *bars) image(i *plan.Image) *mpb.Bar {
	var bytes int64
	for _, blob := range plan.Blobs(i.Manifests) {
		bytes += blob.Size
	}
	const width = 40
	name := []rune(plain.Line(i.Repository + ":" + i.Tag))
	if len(name) > width {
		name = append([]rune("…"), name[len(name)-width+1:]...)
	}
	return b.pool.AddBar(bytes,
		mpb.PrependDecorators(decor.Name(string(name), decor.WC{W: width + 1, C: decor.DindentRight})),
		mpb.AppendDecorators(
			decor.CountersKibiByte("% .1f / % .1f"), decor.AverageSpeed(decor.SizeB1024(0), " % .1f"),
			decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8})),
	)
}

// stop leaves the bars as they are.
func (b *bars) stop() {
	if b == nil {
		return
	}
	b.mu.Lock()
	pool := b.pool
	if pool == nil {
		b.mu.Unlock()
		return
	}
	b.pool = nil
	for _, bar := range b.images {
		bar.Abort(true)
	}
	b.all.Abort(false)
	b.mu.Unlock()
	pool.Wait()
}
