package registry

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
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

// metricsFor restricts the metrics, which reveal names and counts, to this host and to users, unless the configuration
// opens them. The peer of the connection decides: any client can send the header of a proxy. A proxy on this host is
// this host.
func (d *daemon) metricsFor(next http.Handler) http.Handler {
	denied := func(w http.ResponseWriter, _ *http.Request, status int) {
		http.Error(w, "/metrics is for users of the registry, and for its host: log in as any user", status)
	}
	users := d.auth.Require(func(*http.Request) auth.Action { return auth.Login }, admitted(next, denied), denied)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, login := r.BasicAuth(); !login && (d.cfg.OpenMetrics || isLoopback(r.RemoteAddr)) {
			next.ServeHTTP(w, r)
			return
		}
		users.ServeHTTP(w, r)
	})
}

func isLoopback(remote string) bool {
	a, err := netip.ParseAddrPort(remote)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func (m *metrics) request(r *http.Request, o *observed, received int64, took time.Duration) {
	kind, method := kindOf(r.URL.Path), methodOf(r.Method)
	m.requests.WithLabelValues(kind, method, strconv.Itoa(o.status)).Inc()
	m.duration.WithLabelValues(kind, method).Observe(took.Seconds())
	m.sent.WithLabelValues(kind).Add(float64(o.sent))
	m.received.WithLabelValues(kind).Add(float64(received))
}

// kindOf keeps the number of label values small: any client can make up paths.
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
	d    *daemon
	all  []gauge
	held []gauge // of what the store holds, which is counted once for all of them
	free, kept,
	inodes, freeInodes, keptInodes,
	build *prometheus.Desc
}

type gauge struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func() float64              // not a number: there is none
	count func(store.Stats) (n int64) // of those in held
}

func newGauges(d *daemon) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("appliance_"+name, help, labels, nil)
	}
	g := &gauges{
		d:     d,
		build: desc("build_info", "Which build runs; always 1.", "version", "goversion"),
		free:  desc("filesystem_free_bytes", "Free bytes on the file system of the blobs, and of the database if that is another.", "path"),
		kept:  desc("filesystem_kept_bytes", "Of these, bytes that pushes leave free, see minFree in config.yaml.", "path"),

		inodes:     desc("filesystem_inodes", "Inodes of the file system of the blobs, and of the database if that is another; absent if they have no limit.", "path"),
		freeInodes: desc("filesystem_free_inodes", "Of these, those that are free.", "path"),
		keptInodes: desc("filesystem_kept_inodes", "Of these, those that pushes leave free.", "path"),
	}
	gaugeOf := func(name, help string, value func() float64) {
		g.all = append(g.all, gauge{desc: desc(name, help), kind: prometheus.GaugeValue, value: value})
	}
	counter := func(name, help string, value func() int64) {
		g.all = append(g.all, gauge{desc: desc(name, help), kind: prometheus.CounterValue, value: func() float64 { return float64(value()) }})
	}
	held := func(name, help string, count func(store.Stats) int64) {
		g.held = append(g.held, gauge{desc: desc(name, help), count: count})
	}
	gaugeOf("certificate_not_after_timestamp_seconds", "When the served certificate expires.", func() float64 { return timestamp(d.tls.NotAfter()) })
	gaugeOf("ca_not_after_timestamp_seconds", "When the CA that clients are given expires; absent if it is not known here.", func() float64 { return timestamp(d.tls.CANotAfter()) })
	gaugeOf("database_damaged", "1 if SQLite has found its database damaged since the start: see appliance verify.", func() float64 { return oneIf(d.store.Damage() != nil) })
	gaugeOf("database_size_bytes", "Size of the database file.", func() float64 { size, _ := d.store.DatabaseBytes(); return float64(size) })
	gaugeOf("database_wal_size_bytes", "Size of the write-ahead log of the database.", func() float64 { _, wal := d.store.DatabaseBytes(); return float64(wal) })

	job := func(kind, name, names string, stats func() jobs.Stats) {
		gaugeOf(kind+"_running", "1 while a "+name+" runs.", func() float64 { return oneIf(stats().Running) })
		gaugeOf(kind+"_last_success_timestamp_seconds", "When a "+name+" last completed; absent if none did.", func() float64 { return timestamp(stats().LastSuccess) })
		counter(kind+"_runs_total", names+" since the start, without dry runs.", func() int64 { return stats().Runs })
		counter(kind+"_failures_total", "Of these, those that failed.", func() int64 { return stats().Failures })
	}
	job("gc", "collection", "Collections", d.jobs.GC.Stats)
	job("scrub", "scrub", "Scrubs", d.jobs.Scrub.Stats)
	job("verify", "verification", "Verifications", d.jobs.Verify.Stats)
	counter("gc_removed_blobs_total", "Blobs removed by collections since the start.", d.collector.blobs.Load)
	counter("gc_freed_bytes_total", "Bytes freed by collections since the start.", d.collector.bytes.Load)
	gaugeOf("scrub_progress_ratio", "How much the scrub that runs, or was stopped half way, has read; absent if there is none.", func() float64 { return ratio(d.scrubState()) })
	counter("scrub_read_bytes_total", "Bytes that scrubs have read since the start.", d.scrubber.read.Load)
	counter("scrub_damaged_blobs_total", "Damaged blobs that scrubs have found since the start.", d.scrubber.damaged.Load)
	counter("scrub_repaired_blobs_total", "Of these, those that were fetched again.", d.scrubber.repaired.Load)
	counter("pulled_evicted_bytes_total", "Bytes of pulled-through content evicted for its quota, since the start.", d.evictor.evicted.Load)

	held("store_repositories", "Repositories that hold something.", func(s store.Stats) int64 { return s.Repositories })
	held("store_manifests", "Manifests held.", func(s store.Stats) int64 { return s.Manifests })
	held("store_tags", "Tags.", func(s store.Stats) int64 { return s.Tags })
	held("store_blobs", "Blobs held.", func(s store.Stats) int64 { return s.Blobs })
	held("store_blob_bytes", "Bytes of the blobs held.", func(s store.Stats) int64 { return s.BlobBytes })
	held("store_quarantined_blobs", "Blobs that are damaged and out of service: see appliance scrub.", func(s store.Stats) int64 { return s.Quarantined })
	held("store_users", "Users.", func(s store.Stats) int64 { return s.Users })
	return g
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// timestamp is not a number for the zero time, which is never.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return math.NaN()
	}
	return float64(t.Unix())
}

func ratio(s *api.ScrubState) float64 {
	if s == nil {
		return math.NaN()
	}
	// More was pushed, or deleted, since it began.
	return min(1, float64(s.Bytes)/float64(max(1, s.Of.Bytes)))
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.build, g.free, g.kept, g.inodes, g.freeInodes, g.keptInodes} {
		out <- d
	}
	for _, one := range append(slices.Clip(g.all), g.held...) {
		out <- one.desc
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(g.build, prometheus.GaugeValue, 1, g.d.version, runtime.Version())
	for _, one := range g.all {
		if v := one.value(); !math.IsNaN(v) {
			out <- prometheus.MustNewConstMetric(one.desc, one.kind, v)
		}
	}
	room, err := g.d.store.Space()
	if err != nil {
		out <- prometheus.NewInvalidMetric(g.free, err)
	}
	for _, r := range room {
		of := func(desc *prometheus.Desc, value int64) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), r.Path)
		}
		of(g.free, r.Free)
		of(g.kept, r.Kept)
		if r.Inodes > 0 {
			of(g.inodes, r.Inodes)
			of(g.freeInodes, r.FreeInodes)
			of(g.keptInodes, r.KeptInodes)
		}
	}
	// Prometheus hands a collector no context.
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	held, err := g.d.counts.get(ctx, g.d.store.Stats)
	if err != nil {
		out <- prometheus.NewInvalidMetric(g.held[0].desc, err)
		return
	}
	for _, one := range g.held {
		out <- prometheus.MustNewConstMetric(one.desc, prometheus.GaugeValue, float64(one.count(held)))
	}
}
