//go:build several

package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
)

// TestScale_severalDaemons measures what docs/scale.md has of several daemons: how many round
// trips an operation makes does not grow with their number.
func TestScale_severalDaemons(t *testing.T) {
	first := map[string]cost{}
	for _, daemons := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(daemons), func(t *testing.T) {
			f := newTogether(t, daemons)
			var asked atomic.Int64
			f.bucket.Fault(func(*http.Request) s3test.Action { asked.Add(1); return s3test.Pass })
			m := newTestImage("app", "v1", randomBytes(100<<10), randomBytes(1<<10))
			must(t, f.push(t.Context(), m))
			var n atomic.Int64
			blob := ""
			for d, size := range m.blobs {
				if size == 100<<10 {
					blob = "/v2/app/blobs/" + d.String()
				}
			}
			get := func(method, path string) func() error {
				return func() error { _, err := f.demand(t.Context(), http.StatusOK, method, path, nil); return err }
			}
			for _, op := range []struct {
				name  string
				times int
				do    func() error
			}{
				{"GET of a manifest by tag", 2000, get(http.MethodGet, m.path()+"v1")},
				{"GET of a blob of 100 KiB", 1000, get(http.MethodGet, blob)},
				{"HEAD of a blob", 2000, get(http.MethodHead, blob)},
				{"PUT of a manifest and its tag", 200, func() error {
					_, err := f.demand(t.Context(), http.StatusCreated, http.MethodPut, fmt.Sprint(m.path(), "t", n.Add(1)), bytes.NewReader(m.body), "Content-Type", imageType)
					return err
				}},
				{"push of an image of three blobs", 100, func() error {
					i := n.Add(1)
					return f.push(t.Context(), newTestImage("pushed", fmt.Sprint("v", i), randomBytes(100<<10), randomBytes(1<<10)))
				}},
			} {
				f.several(t, 8, 50, op.do) // so that connections are there, and caches full
				c := f.measure(t, op.times, op.do, &asked)
				t.Logf("%d daemons, %-32s %6.2f ms of CPU, %5.2f round trips to PostgreSQL, %5.2f requests to S3", daemons, op.name, c.cpu, c.trips, c.asked)
				if daemons == 1 {
					first[op.name] = c
				} else if one := first[op.name]; c.trips > 1.5*one.trips+1 || c.asked > one.asked+1 { // fewer writes share a transaction
					t.Errorf("%s: one daemon has %.2f round trips and %.2f requests to S3", op.name, one.trips, one.asked)
				}
			}
		})
	}
}

// TestScale_farDatabase measures how many images a second are pushed to daemons that are 5 ms from their database, so that the
// time is that of the round trips, and not of this machine.
func TestScale_farDatabase(t *testing.T) {
	for _, daemons := range []int{1, 2, 4} {
		f := newTogether(t, daemons)
		var n atomic.Int64
		push := func() error {
			return f.push(t.Context(), newTestImage("pushed", fmt.Sprint("v", n.Add(1)), randomBytes(1<<10), randomBytes(1<<10)))
		}
		f.several(t, 8, 50, push)
		f.proxy.Delay.Store(int64(5 * time.Millisecond))
		for _, clients := range []int{1, 8, 32} {
			began, trips, images := time.Now(), f.proxy.Answers.Load(), 2*clients+8
			f.several(t, clients, images, push)
			t.Logf("%d daemons, %3d clients: %.1f images a second, %.0f round trips for each", daemons, clients,
				float64(images)/time.Since(began).Seconds(), float64(f.proxy.Answers.Load()-trips)/float64(images))
		}
	}
}

// cost is that of one operation.
type cost struct{ cpu, trips, asked float64 }

func (f *together) measure(t *testing.T, times int, do func() error, asked *atomic.Int64) cost {
	t.Helper()
	cpu, trips, before := f.cpu(t), f.proxy.Answers.Load(), asked.Load()
	f.several(t, 8, times, do)
	n := float64(times)
	return cost{float64(f.cpu(t)-cpu) / float64(time.Millisecond) / n, float64(f.proxy.Answers.Load()-trips) / n, float64(asked.Load()-before) / n}
}

// several does something a number of times, several at a time.
func (f *together) several(t *testing.T, clients, times int, do func() error) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(times))
	var workers sync.WaitGroup
	for range clients {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
}

// cpu returns what the daemons have used.
func (f *together) cpu(t *testing.T) (used time.Duration) {
	t.Helper()
	for _, d := range f.daemons {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.process.Process.Pid))
		must(t, err)
		_, after, _ := strings.Cut(string(text), ") ") // the name of the program has none
		fields := strings.Fields(after)
		for _, ticks := range fields[11:13] { // utime and stime, in hundredths of a second
			n, err := strconv.Atoi(ticks)
			must(t, err)
			used += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return used
}
