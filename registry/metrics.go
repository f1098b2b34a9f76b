package registry

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/limits"
	"github.com/mirror-appliance/appliance/registry/updates"
)

// metrics has a registry of its own, without the metrics of other packages.
type metrics struct {
	registry                 *prometheus.Registry
	requests, sent, received *prometheus.CounterVec
	duration                 *prometheus.HistogramVec
}

func newMetrics(d *daemon) *metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(snapshot{d}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: "appliance_http_" + name,
			Help: help}, labels)
	}
	return &metrics{
		registry: r,
		requests: counter("requests_total", "Requests.", "kind", "method", "code"),
		sent:     counter("sent_bytes_total", "Bytes of bodies sent.", "kind"),
		received: counter("received_bytes_total", "Bytes of bodies received.", "kind"),
		duration: promauto.With(r).NewHistogramVec(prometheus.HistogramOpts{
			Name: "appliance_http_request_duration_seconds", Help: "Duration of requests.",
			// from a manifest in memory to a layer over a slow line
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300},
		}, []string{"kind", "method"}),
	}
}

// metricsLimit bounds an answer: Prometheus waits for ten seconds.
const metricsLimit = 8 * time.Second

func (m *metrics) handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError, // the rest matters when the database is damaged
		MaxRequestsInFlight: 4,
		Timeout:             metricsLimit,
	})
}

// metricsFor restricts the metrics, which reveal names and counts, to this host and to users,
// unless the configuration opens them. The peer of the connection decides, since any client can
// send the header of a proxy. A proxy on this host is this host.
func (d *daemon) metricsFor(next http.Handler) http.Handler {
	denied := func(w http.ResponseWriter, _ *http.Request, status int) {
		http.Error(w, "/metrics is for users of the registry, and for its host: log in as any user", status)
	}
	unchecked := func(w http.ResponseWriter, r *http.Request, status int) {
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retry.Later)
			http.Error(w, "the login could not be checked: the database does not answer, or fails", status)
			return
		}
		denied(w, r, status)
	}
	users := d.auth.Require(func(*http.Request) auth.Action { return auth.Login }, admitted(next, denied), unchecked)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, login := r.BasicAuth(); !login && (d.cfg.OpenMetrics || limits.IsLoopback(r.RemoteAddr)) {
			next.ServeHTTP(w, r)
			return
		}
		users.ServeHTTP(w, r)
	})
}

func (m *metrics) request(r *http.Request, o *observed, received int64, took time.Duration) {
	kind, method := kindOf(r.URL.Path), methodOf(r.Method)
	m.requests.WithLabelValues(kind, method, strconv.Itoa(o.status)).Inc()
	m.duration.WithLabelValues(kind, method).Observe(took.Seconds())
	m.sent.WithLabelValues(kind).Add(float64(o.sent))
	m.received.WithLabelValues(kind).Add(float64(received))
}

// kindOf bounds the label values: any client can make up paths.
func kindOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/api/v1/"):
		return "control"
	case strings.HasPrefix(path, updates.Path), strings.HasPrefix(path, updates.SignaturesPath):
		return "updates"
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

// snapshot collects values that are read when they are asked for. It describes none in advance,
// since some are absent at times.
type snapshot struct{ *daemon }

// Describe implements prometheus.Collector.
func (snapshot) Describe(chan<- *prometheus.Desc) {}

// samples takes the values of a snapshot.
type samples chan<- prometheus.Metric

func (s samples) send(kind prometheus.ValueType, name, help string, v float64, labels prometheus.Labels) {
	if math.IsNaN(v) {
		return // absent
	}
	desc := prometheus.NewDesc("appliance_"+name, help, nil, labels)
	s <- prometheus.MustNewConstMetric(desc, kind, v)
}

func (s samples) gauge(name, help string, v float64) {
	s.send(prometheus.GaugeValue, name, help, v, nil)
}

func (s samples) counter(name, help string, v int64) {
	s.send(prometheus.CounterValue, name, help, float64(v), nil)
}

// fail reports values that cannot be read.
func (s samples) fail(err error) {
	s <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
}

// Collect implements prometheus.Collector.
func (d snapshot) Collect(out chan<- prometheus.Metric) {
	s := samples(out)
	s.send(prometheus.GaugeValue, "build_info", "The build that runs; always 1.", 1,
		prometheus.Labels{"version": d.version, "goversion": runtime.Version()})
	s.gauge("certificate_not_after_timestamp_seconds", "When the served certificate expires.",
		timestamp(d.tls.NotAfter()))
	s.gauge("ca_not_after_timestamp_seconds",
		"When the CA at /ca.crt expires; absent if it is unknown.", timestamp(d.tls.CANotAfter()))
	s.gauge("database_damaged", "1 if the database was found damaged since the start: see appliance verify.", oneIf(d.store.Damage() != nil))
	s.counter("audit_lost_total", "Records of the audit that are in the journal alone, since the start.", d.audit.Lost())
	d.collectJobs(s)
	d.collectUpstreams(s)
	d.collectUpdates(s)
	d.collectFamily(s)
	d.collectSpace(s)
	found := d.health.report(context.Background()) // Prometheus gives a collector no context
	for service, up := range found.services {
		s.send(prometheus.GaugeValue, "healthy", "1 for each service of /health/instance that is healthy, else 0.", oneIf(up), prometheus.Labels{"service": service})
	}
	if d.down(found) {
		return // all of the rest is read there
	}
	size, wal := d.store.DatabaseBytes()
	s.gauge("database_size_bytes", "Size of the database file.", float64(size))
	s.gauge("database_wal_size_bytes", "Size of the write-ahead log of the database.", float64(wal))
	s.gauge("scrub_progress_ratio", "The part of the store that the unfinished scrub has read; absent if there is none.", progress(d.scrubber.state(context.Background())))
	d.collectFollowers(s)
	d.collectStore(s)
}

func (d snapshot) collectUpstreams(s samples) {
	for _, u := range d.upstreams.puller.Stats() {
		of := func(kind prometheus.ValueType, name, help string, v float64) {
			s.send(kind, "upstream_"+name, help, v, prometheus.Labels{"upstream": u.Upstream})
		}
		for result, n := range u.Requests {
			s.send(prometheus.CounterValue, "upstream_requests_total", "Requests to upstreams since the start, each with its login and retries, by result.",
				float64(n), prometheus.Labels{"upstream": u.Upstream, "result": result})
		}
		of(prometheus.GaugeValue, "down", "1 while the upstream does not answer and is left alone.", oneIf(u.Down))
		of(prometheus.CounterValue, "received_bytes_total", "Bytes of blobs that came from the upstream since the start.", float64(u.Bytes))
		of(prometheus.CounterValue, "stale_answers_total", "Answers with what is held, since the upstream could not be asked, since the start.", float64(u.Stale))
		of(prometheus.CounterValue, "answers_total", "Answers to clients with a manifest or a blob of the upstream, since the start.", float64(u.Answers))
		of(prometheus.CounterValue, "held_answers_total", "Of these, those with what was held.", float64(u.Held))
		of(prometheus.GaugeValue, "downloads", "Blobs that are coming from the upstream.", float64(u.Downloads))
	}
}

func (d snapshot) collectUpdates(s samples) {
	u := d.updates.State()
	if u == nil {
		return
	}
	s.gauge("updates_releases", "Releases that are here; absent without any.", float64(u.Releases))
	s.gauge("updates_problems", "Parts of graph data and releases without effect: see appliance updates show.", float64(u.Problems))
	if u.Since != nil {
		s.gauge("updates_graph_data_timestamp_seconds", "When the graph data came; absent if there is none, and clusters are offered nothing.", timestamp(*u.Since))
	}
}

func (d snapshot) collectJobs(s samples) {
	for _, job := range []struct {
		kind, name string
		jobs.Stats
	}{
		{"gc", "collection", d.jobs.GC.Stats()},
		{"scrub", "scrub", d.jobs.Scrub.Stats()},
		{"verify", "verification", d.jobs.Verify.Stats()},
		{"catalogs", "pass over the views of catalogs", d.jobs.Catalogs.Stats()},
	} {
		s.gauge(job.kind+"_running", "1 while a "+job.name+" runs.", oneIf(job.Running))
		s.gauge(job.kind+"_last_success_timestamp_seconds",
			"When a "+job.name+" last completed; absent if none did.", timestamp(job.LastSuccess))
		s.counter(job.kind+"_runs_total", "Runs of a "+job.name+" since the start, without dry runs.", job.Runs)
		s.counter(job.kind+"_failures_total", "Of these, those that failed.", job.Failures)
	}
	for _, m := range d.mirrors {
		labels, stats := prometheus.Labels{"image_set": m.set.ImageSet}, m.runner.Stats()
		s.send(prometheus.GaugeValue, "sync_running", "1 while the image set is mirrored.",
			oneIf(stats.Running), labels)
		s.send(prometheus.GaugeValue, "sync_last_success_timestamp_seconds",
			"When the image set was last mirrored completely; absent if it was not.",
			timestamp(stats.LastSuccess), labels)
		s.send(prometheus.CounterValue, "sync_runs_total", "Runs of the image set since the start.",
			float64(stats.Runs), labels)
		s.send(prometheus.CounterValue, "sync_failures_total", "Of these, those that failed.",
			float64(stats.Failures), labels)
	}
	s.counter("gc_removed_blobs_total", "Blobs removed by collections since the start.", d.collector.blobs.Load())
	s.counter("gc_freed_bytes_total", "Bytes freed by collections since the start.", d.collector.bytes.Load())
	s.counter("scrub_read_bytes_total", "Bytes read by scrubs since the start.", d.scrubber.read.Load())
	s.counter("scrub_damaged_blobs_total", "Damaged blobs found by scrubs since the start.", d.scrubber.damaged.Load())
	s.counter("scrub_repaired_blobs_total", "Of these, those that were fetched again.", d.scrubber.repaired.Load())
	s.counter("pulled_evicted_bytes_total", "Bytes of pulled-through content evicted for its quota, since the start.", d.evictor.evicted.Load())
}

func (d snapshot) collectSpace(s samples) {
	room, err := d.store.Space()
	if err != nil {
		s.fail(err)
	}
	for _, r := range room {
		of := func(name, help string, v int64) {
			s.send(prometheus.GaugeValue, "filesystem_"+name, help, float64(v), prometheus.Labels{"path": r.Path})
		}
		of("free_bytes", "Free bytes on the file system of the blobs, and of the database if that is another.", r.Free)
		of("kept_bytes", "Of these, bytes that pushes leave free, see minFree in config.yaml.", r.Kept)
		if r.Inodes > 0 {
			of("inodes", "Inodes of these file systems; absent if they have no limit.", r.Inodes)
			of("free_inodes", "Of these, free inodes.", r.FreeInodes)
			of("kept_inodes", "Of these, inodes that pushes leave free.", r.KeptInodes)
		}
	}
}

func (d snapshot) collectStore(s samples) {
	// Prometheus gives a collector no context.
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	n, err := d.counts.get(ctx, d.store.Stats)
	if err != nil {
		s.fail(err)
		return
	}
	s.gauge("store_repositories", "Repositories with content.", float64(n.Repositories))
	s.gauge("store_manifests", "Manifests.", float64(n.Manifests))
	s.gauge("store_tags", "Tags.", float64(n.Tags))
	s.gauge("store_blobs", "Blobs.", float64(n.Blobs))
	s.gauge("store_blob_bytes", "Bytes of the blobs.", float64(n.BlobBytes))
	s.gauge("store_quarantined_blobs", "Damaged blobs out of service: see appliance scrub.", float64(n.Quarantined))
	s.gauge("store_users", "Users.", float64(n.Users))
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// timestamp returns NaN for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return math.NaN()
	}
	return float64(t.Unix())
}

func progress(s *api.ScrubState) float64 {
	if s == nil {
		return math.NaN()
	}
	// Content was pushed, or deleted, since it began.
	return min(1, float64(s.Bytes)/float64(max(1, s.Of.Bytes)))
}
