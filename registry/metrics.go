package registry

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics has a registry of its own: what other packages put into the default one is theirs.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sent     *prometheus.CounterVec
	received *prometheus.CounterVec
}

func newMetrics(d *daemon) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "appliance_http_requests_total", Help: "Requests, by what they were about."}, []string{"kind", "method", "code"}),
		// From a manifest in memory to a layer over a slow line.
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "appliance_http_request_duration_seconds", Help: "How long requests took.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300}}, []string{"kind", "method"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "appliance_http_sent_bytes_total", Help: "Bytes of bodies sent."}, []string{"kind"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "appliance_http_received_bytes_total", Help: "Bytes of bodies received."}, []string{"kind"}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.sent, m.received, newGauges(d),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError, // the rest is the more wanted when the database is ill
		MaxRequestsInFlight: 4,
		Timeout:             checkLimit,
	})
}

func (m *metrics) request(r *http.Request, o *observed, received int64, took time.Duration) {
	kind, method := kindOf(r.URL.Path), methodOf(r.Method)
	m.requests.WithLabelValues(kind, method, strconv.Itoa(o.status)).Inc()
	m.duration.WithLabelValues(kind, method).Observe(took.Seconds())
	m.sent.WithLabelValues(kind).Add(float64(o.sent))
	m.received.WithLabelValues(kind).Add(float64(received))
}

// kindOf keeps the number of label values small: anybody can make up paths.
func kindOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/api/v1/"):
		return "control"
	case !isV2(path):
		return "other"
	case strings.Contains(path, "/blobs/uploads"):
		return "upload"
	case strings.Contains(path, "/blobs/"):
		return "blob"
	case strings.Contains(path, "/manifests/"):
		return "manifest"
	}
	return "list"
}

func methodOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return "other"
}

// gauges are looked up when they are asked for.
type gauges struct {
	d *daemon

	build, until, repositories, manifests, tags, blobs, blobBytes, users,
	gcRuns, gcFailures, gcBlobs, gcBytes, gcLast, scrubBytes, scrubDamaged, scrubRepaired, evictedBytes *prometheus.Desc
}

func newGauges(d *daemon) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("appliance_"+name, help, labels, nil)
	}
	return &gauges{
		d:            d,
		build:        desc("build_info", "Which build runs; always 1.", "version", "goversion"),
		until:        desc("certificate_not_after_timestamp_seconds", "When the served certificate expires."),
		repositories: desc("store_repositories", "Repositories that hold something."),
		manifests:    desc("store_manifests", "Manifests held."),
		tags:         desc("store_tags", "Tags."),
		blobs:        desc("store_blobs", "Blobs held."),
		blobBytes:    desc("store_blob_bytes", "Bytes of the blobs held."),
		users:        desc("store_users", "Users."),
		gcRuns:       desc("gc_runs_total", "Collections since the start, without dry runs."),
		gcFailures:   desc("gc_failures_total", "Collections that stopped half way."),
		gcBlobs:      desc("gc_removed_blobs_total", "Blobs removed by collections."),
		gcBytes:      desc("gc_freed_bytes_total", "Bytes freed by collections."),
		gcLast:       desc("gc_last_success_timestamp_seconds", "When a collection last ended well; absent if none did since the start."),

		scrubBytes:    desc("scrub_read_bytes_total", "Bytes that scrubs have read since the start."),
		scrubDamaged:  desc("scrub_damaged_blobs_total", "Damaged blobs that scrubs have found since the start."),
		scrubRepaired: desc("scrub_repaired_blobs_total", "Of these, those that were fetched again."),
		evictedBytes:  desc("pulled_evicted_bytes_total", "Bytes of pulled-through content let go of for its quota, since the start."),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.build, g.until, g.repositories, g.manifests, g.tags, g.blobs, g.blobBytes, g.users,
		g.gcRuns, g.gcFailures, g.gcBlobs, g.gcBytes, g.gcLast,
		g.scrubBytes, g.scrubDamaged, g.scrubRepaired, g.evictedBytes} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(g.build, 1, g.d.version, runtime.Version())
	gauge(g.until, float64(g.d.tls.NotAfter().Unix()))
	c := g.d.collector
	counter(g.gcRuns, c.runs.Load())
	counter(g.gcFailures, c.failures.Load())
	counter(g.gcBlobs, c.blobs.Load())
	counter(g.gcBytes, c.bytes.Load())
	u := g.d.upkeep
	counter(g.scrubBytes, u.scrubbed.Load())
	counter(g.scrubDamaged, u.damaged.Load())
	counter(g.scrubRepaired, u.repaired.Load())
	counter(g.evictedBytes, u.evicted.Load())
	if last := c.last.Load(); last != nil {
		gauge(g.gcLast, float64(last.Ended.Unix()))
	}
	// Prometheus hands a collector no context.
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	held, err := g.d.store.Stats(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(g.blobs, err)
		return
	}
	gauge(g.repositories, float64(held.Repositories))
	gauge(g.manifests, float64(held.Manifests))
	gauge(g.tags, float64(held.Tags))
	gauge(g.blobs, float64(held.Blobs))
	gauge(g.blobBytes, float64(held.BlobBytes))
	gauge(g.users, float64(held.Users))
}
