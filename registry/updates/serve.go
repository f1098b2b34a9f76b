package updates

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// Path is below which the update service is.
const Path = "/api/upgrades_info/"

// Media types of answers. The vendor's is that of a request without preference.
const (
	mediaType       = "application/json"
	vendorMediaType = "application/vnd.redhat.cincinnati.v1+json"
)

// archGrammar is the grammar of architectures; messages show it.
const archGrammar = `^[0-9a-z]+$`

var archSyntax = regexp.MustCompile(archGrammar)

// defaultArch is the architecture of a request without one.
const defaultArch = "amd64"

// maxAnswers bounds the answers that are kept: channels times architectures.
const maxAnswers = 2000

// ServeHTTP answers what is below Path and SignaturesPath. No login is wanted: a cluster has none.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ofService := strings.CutPrefix(r.URL.Path, Path)
	var answer func(http.ResponseWriter, *http.Request)
	switch signature, ok := strings.CutPrefix(name, "signatures/"); {
	case !ofService:
		name = strings.TrimPrefix(r.URL.Path, SignaturesPath)
		answer = func(w http.ResponseWriter, _ *http.Request) { s.signature(w, name) }
	case ok:
		answer = func(w http.ResponseWriter, _ *http.Request) { s.signature(w, signature) }
	case name == "graph", name == "v1/graph":
		answer = s.graph
	case name == "graph-data":
		answer = s.graphData
	case name == "openapi", name == "v1/openapi":
		answer = openAPI
	default:
		w.WriteHeader(http.StatusNotFound) // without a body, as the reference has it
		return
	}
	if r.Method != http.MethodGet { // HEAD too, as the reference has it
		w.Header().Set("Allow", "GET")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	answer(w, r)
}

// refuse answers with an error in the form of update services.
func refuse(w http.ResponseWriter, status int, kind, value string) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that went away needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]string{"kind": kind, "value": value})
}

// graph answers with the graph of a channel. The checks are in the order of the reference.
func (s *Service) graph(w http.ResponseWriter, r *http.Request) {
	as, ok := accepted(r.Header.Values("Accept"))
	if !ok {
		refuse(w, http.StatusNotAcceptable, "invalid_content_type", "invalid Content-Type requested")
		return
	}
	channel, given := parameter(r.URL.RawQuery, "channel")
	if !given {
		refuse(w, http.StatusBadRequest, "missing_params", "mandatory client parameters missing: channel")
		return
	}
	now := s.current.Load()
	if now.graph == nil {
		w.Header().Set("Retry-After", "60")
		refuse(w, http.StatusInternalServerError, "failed_upstream_fetch", now.why)
		return
	}
	if !graphdata.ValidChannel(channel) {
		refuse(w, http.StatusBadRequest, "invalid_params", fmt.Sprintf("invalid client parameters: channel '%s' does not match regex '%s'", channel, graphdata.ChannelGrammar))
		return
	}
	arch, given := parameter(r.URL.RawQuery, "arch")
	if !given {
		arch = defaultArch
	}
	if !archSyntax.MatchString(arch) {
		refuse(w, http.StatusBadRequest, "invalid_params", fmt.Sprintf("invalid client parameters: arch '%s' does not match regex '%s'", arch, archGrammar))
		return
	}
	a, err := now.answers.of(now.graph, channel, arch)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "failed_json_out", err.Error())
		return
	}
	w.Header().Set("Content-Type", as)
	w.Header().Add("Vary", "Accept")
	a.serve(w, r)
}

// parameter returns a parameter of a query. The last value counts: a cluster adds its own to those that the
// administrator has put into spec.upstream. What cannot be decoded stays as it is, as in the reference, and
// is refused by its grammar: url.ParseQuery leaves such a parameter out, and the answer would be that for
// the default architecture.
func parameter(query, name string) (value string, given bool) {
	for part := range strings.SplitSeq(query, "&") {
		key, text, _ := strings.Cut(part, "=")
		if decoded(key) == name {
			value, given = decoded(text), true
		}
	}
	return value, given
}

func decoded(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}

// accepted returns the media type of the answer to an Accept header, and whether there is one. The
// reference compares the whole header with a few texts; what it takes has the same answer here.
func accepted(values []string) (string, bool) {
	if len(values) == 0 {
		return vendorMediaType, true
	}
	best, bestQ := "", 0.0
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			name = strings.TrimSpace(part)
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		switch name {
		case mediaType, vendorMediaType:
		case "application/*", "*/*", "*":
			name = mediaType
		default:
			continue
		}
		if q > bestQ {
			best, bestQ = name, q
		}
	}
	return best, best != ""
}

// answers are those that were asked for since a pass.
type answers struct {
	mu    sync.Mutex
	known map[[2]string]*answer
}

// answer is an answer as it is sent.
type answer struct {
	once        sync.Once
	plain, gzip []byte
	digest      digest.Digest
	err         error
}

// of returns the answer for a channel and an architecture, computing it once. One without releases
// is not kept, so that a client cannot fill the memory with channels of its own.
func (a *answers) of(g *graphdata.Graph, channel, arch string) (*answer, error) {
	key := [2]string{channel, arch}
	a.mu.Lock()
	one, ok := a.known[key]
	if !ok {
		one = new(answer)
		if g.Has(channel, arch) && len(a.known) < maxAnswers {
			if a.known == nil {
				a.known = map[[2]string]*answer{}
			}
			a.known[key] = one
		}
	}
	a.mu.Unlock()
	one.once.Do(func() { one.compute(g, channel, arch) })
	return one, one.err
}

func (a *answer) compute(g *graphdata.Graph, channel, arch string) {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false) // queries have < and >, and people read this
	a.err = e.Encode(g.Answer(channel, arch))
	a.plain = bytes.TrimSuffix(plain.Bytes(), []byte("\n"))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(a.plain)
	a.err = errors.Join(a.err, err, z.Close())
	a.gzip, a.digest = zipped.Bytes(), digest.FromBytes(a.plain)
}

// serve sends an answer, compressed if the client takes that, or that it is the one that the client
// has.
func (a *answer) serve(w http.ResponseWriter, r *http.Request) {
	body, tag := a.plain, a.digest.Encoded()
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache") // the ETag tells whether it has changed
	if zipped(r.Header.Values("Accept-Encoding")) {
		body, tag = a.gzip, tag+"-gzip"
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Etag", `"`+tag+`"`)
	if matches(r.Header.Values("If-None-Match"), a.digest.Encoded()) {
		h.Del("Content-Type")
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that went away needs no answer
}

// zipped reports whether a client takes gzip.
func zipped(values []string) bool {
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		_, q, weighed := strings.Cut(params, "q=")
		weight, err := strconv.ParseFloat(strings.TrimSpace(cmp.Or(q, "1")), 64)
		if strings.EqualFold(strings.TrimSpace(name), "gzip") && (!weighed || err == nil && weight > 0) {
			return true
		}
	}
	return false
}

// matches reports whether one of the tags of a client is that of a content, compressed or not.
func matches(values []string, content string) bool {
	tags := strings.Split(strings.Join(values, ","), ",")
	return slices.ContainsFunc(tags, func(tag string) bool {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		return tag == "*" || strings.TrimSuffix(tag, "-gzip") == content
	})
}

// graphData sends the graph data that counts, as an archive: what mirrors ask an update service for.
func (s *Service) graphData(w http.ResponseWriter, r *http.Request) {
	now := s.current.Load()
	if now.data.archive == nil {
		refuse(w, http.StatusInternalServerError, "file_open_err", now.why)
		return
	}
	tag := digest.FromBytes(now.data.archive).Encoded()
	h := w.Header()
	h.Set("Etag", `"`+tag+`"`)
	h.Set("Cache-Control", "no-cache")
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/gzip")
	h.Set("Content-Length", strconv.Itoa(len(now.data.archive)))
	_, _ = w.Write(now.data.archive) // a client that went away needs no answer
}
