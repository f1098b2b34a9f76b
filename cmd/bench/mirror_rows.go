package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// rows judges each way against the probe, and against oc-mirror where that was measured.
func (m *mirrorBench) rows() []row {
	var rows []row
	what := func(way string) string {
		return fmt.Sprintf("%s, %d images of %d MB", way, mirrorImages, int(mirrorSize/1e6))
	}
	for _, way := range []string{toAppliance, toDisk, fromDisk} {
		rows = append(rows, m.times[way].row(what(way), "s").atMost(1.15))
	}
	for _, way := range []string{toAppliance, toDisk} {
		both := series{subjectName: m.times[way][subjectName], probeName: m.times[way][fetchName]}
		r := both.row(what(way)+", beside a probe that fetches", "s").atMost(1.15)
		r.Note = "the probe reads the same bytes from the source over HTTP, in one process"
		rows = append(rows, r)
	}
	for _, against := range []struct {
		way, of string // of: what oc-mirror is measured with
		most    float64
	}{{toAppliance, toRegistry, 0.6}, {toRegistry, toRegistry, 0.85}, {toDisk, toDisk, 0.5}, {fromDiskThere, fromDiskThere, 0.4}} {
		both := series{subjectName: m.times[against.way][subjectName], probeName: m.times[against.of][ocMirrorProgram]}
		r := both.row(what(against.way)+", beside oc-mirror", "s").atMost(against.most)
		if len(both[probeName]) == 0 || len(both[subjectName]) == 0 {
			r.Verdict, r.Note = absent, ocMirrorProgram+" or "+distributionProgram+" is not on PATH"
		} else {
			r.Note = "the probe is oc-mirror, " + against.of
		}
		rows = append(rows, r)
	}
	for _, way := range []string{toAppliance, toDisk, fromDisk} {
		rows = append(rows, m.writtenRow(what(way)+": bytes written for each of content", m.written[way]))
	}
	return rows
}

// mostWritten allows for manifests, rows of the database and reports.
const mostWritten = 1.01

func (m *mirrorBench) writtenRow(what string, written []float64) row {
	r := row{What: what, Unit: "bytes", Value: median(written), Target: fmt.Sprintf("≤ %g bytes", mostWritten)}
	r.Verdict = verdict(r.Value <= mostWritten)
	return r
}

// small mirrors many small images from far away, and then once more, from near, with nothing to do.
func (m *mirrorBench) small(ctx context.Context, program mirrorer) (_ []row, err error) {
	to, end, err := m.destination(ctx, toAppliance)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := m.prepareMirrors(m.from.imageSet(), to.addr); err != nil {
		return nil, err
	}
	args := []string{"--workspace", "file://" + m.site.path("workspace"), "--dest-tls-verify=false",
		"--parallel-images", fmt.Sprint(farParallel), "docker://" + to.addr}
	m.from.blobsAsked()
	m.from.slow(farTrip)
	far, err := program.run(ctx, args...)
	m.from.slow(0)
	if err != nil {
		return nil, err
	}
	trips := time.Duration(smallImages/farParallel*4) * farTrip
	first := row{What: fmt.Sprintf("%d small images, %v away, %d at once", smallImages, farTrip, farParallel), Unit: "s",
		Value: far.took.Seconds(), Probe: trips.Seconds(), Ratio: far.took.Seconds() / trips.Seconds(), Note: "the probe is four round trips an image"}
	asked, began := m.from.blobsAsked(), to.requests()
	near, err := program.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	first.Note += fmt.Sprintf("; %d requests for %d blobs", asked, 2*smallImages)
	again := row{What: fmt.Sprintf("nothing new, %d images", smallImages), Unit: "s", Value: near.took.Seconds(),
		Note: fmt.Sprintf("%d requests of the control API for %d digests", to.requests()-began, 3*smallImages)}
	blobs := row{What: fmt.Sprintf("nothing new, %d images: requests for blobs", smallImages), Unit: "requests", Value: float64(m.from.blobsAsked())}
	return []row{first.atMost(1.3), again.under(1), blobs.none()}, nil
}

// requests counts those of the control API in the access log.
func (s *server) requests() int {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "path=/api/v1/sync") {
			n++
		}
	}
	return n
}

// requests counts what one new image of three blobs costs another registry.
func (m *mirrorBench) requests(ctx context.Context, program mirrorer) (_ row, err error) {
	if err := m.from.fill(ctx, 0, 0); err != nil {
		return row{}, err
	}
	i, err := newImage("three", 2, smallSize)
	if err != nil {
		return row{}, err
	}
	if err := m.from.add("bench/three", i); err != nil {
		return row{}, err
	}
	var asked atomic.Int64
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		inner.ServeHTTP(w, r)
	}))
	defer to.Close()
	host := strings.TrimPrefix(to.URL, "http://")
	if err := m.prepareMirrors(m.from.imageSet(), host); err != nil {
		return row{}, err
	}
	defer func() { err = errors.Join(err, m.site.remove("workspace")) }()
	_, err = program.run(ctx, "--workspace", "file://"+m.site.path("workspace"), "--dest-tls-verify=false", "docker://"+host)
	r := row{What: "requests for a new image of three blobs at another registry", Unit: "requests", Value: float64(asked.Load()), Target: "≤ 18 requests"}
	r.Verdict = verdict(r.Value <= 18)
	return r, err
}
