package mirror_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
)

// cramped is a destination that knows how much it takes.
type cramped struct {
	mirror.Destination
	free int64
	err  error
}

func (d *cramped) Room(context.Context) (free, kept int64, where string, err error) {
	return d.free, 10 << 20, "/var/lib/images", d.err
}

func TestRun_whatDoesNotFitIsNotBegun(t *testing.T) {
	s := newSetup(t, additional)
	p := s.plan(t)
	if err := s.engine.Compare(t.Context(), p, s.run(t)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		dst  cramped
		fits bool
	}{
		"a byte too little": {cramped{free: p.Missing - 1}, false},
		"less than is kept": {cramped{free: -5}, false},
		"just enough":       {cramped{free: p.Missing}, true},
		"it does not say":   {cramped{err: errors.New("the control API is busy")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s.asked("")
			var names []string
			o := s.options(t, additional, s.runs(&names), func(o *mirror.Options) {
				begin := o.Begin
				o.Begin = func(ctx context.Context, name string) (mirror.Destination, error) {
					run, err := begin(ctx, name)
					test.dst.Destination = run
					return &test.dst, err
				}
			})
			p, _, err := mirror.DryRun(t.Context(), o)
			if (err == nil) != test.fits || test.fits && test.dst.err == nil && (len(p.Space) != 2 || p.Space[0].Needs > p.Space[0].Free) {
				t.Errorf("dry run: %v, %v", p, err)
			}
			if test.fits {
				return
			}
			_, err = mirror.Run(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), ":/var/lib/images, where 1") || !strings.Contains(err.Error(), " MiB are free, of which 10 MiB are kept free (minFree in the registry's config.yaml): nothing is copied") || !strings.Contains(hint.Of(err), "appliance gc") {
				t.Errorf("error %v, hint %q", err, hint.Of(err))
			}
			for _, request := range s.asked("/blobs/") {
				if strings.HasPrefix(request, "GET") {
					t.Errorf("%s, though it does not fit", request)
				}
			}
		})
	}
}
