package release_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/mirror/release"
)

// graph makes a channel of versions, with edges written "4.1.0>4.1.1".
func graph(channel, versions string, edges ...string) *release.Graph {
	g := &release.Graph{Channel: channel, Arch: "amd64"}
	list := strings.Fields(versions)
	for _, v := range list {
		g.Nodes = append(g.Nodes, release.Node{Version: semver.MustParse(v), Payload: "q.io/r@sha256:" + v})
	}
	for _, e := range edges {
		from, to, _ := strings.Cut(e, ">")
		g.Edges = append(g.Edges, [2]int{slices.Index(list, from), slices.Index(list, to)})
	}
	return g
}

func versions(nodes []release.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Version.String())
	}
	return strings.Join(all, " ")
}

func TestGraph_Resolve(t *testing.T) {
	// In the order of a service that sorts by text, with a pre-release.
	g := graph("stable-4.1", "4.1.10 4.1.2 4.1.0 4.1.1 4.1.0-rc.1 4.1.3",
		"4.1.0>4.1.1", "4.1.0>4.1.2", "4.1.1>4.1.3", "4.1.2>4.1.3", "4.1.2>4.1.10", "4.1.3>4.1.10")
	for _, tc := range []struct {
		name string
		r    release.Range
		want string
	}{
		{"nothing: the head, by version and not by text", release.Range{}, "4.1.10"},
		{"full", release.Range{Full: true}, "4.1.0-rc.1 4.1.0 4.1.1 4.1.2 4.1.3 4.1.10"},
		{"min only: to the head", release.Range{Min: "4.1.2"}, "4.1.2 4.1.3 4.1.10"},
		{"max only: from the lowest", release.Range{Max: "4.1.1"}, "4.1.0-rc.1 4.1.0 4.1.1"},
		{"both", release.Range{Min: "4.1.1", Max: "4.1.2"}, "4.1.1 4.1.2"},
		{"bounds that are no releases", release.Range{Min: "4.1.4", Max: "4.1.99"}, "4.1.10"},
		{"a pre-release is below its release", release.Range{Min: "4.1.0", Max: "4.1.0"}, "4.1.0"},
		{"full with a bound", release.Range{Full: true, Max: "4.1.0"}, "4.1.0-rc.1 4.1.0"},
		{"the shortest path goes over the highest", release.Range{Min: "4.1.0", Max: "4.1.3", ShortestPath: true}, "4.1.0 4.1.2 4.1.3"},
		{"the shortest path to the head", release.Range{Min: "4.1.1", ShortestPath: true}, "4.1.1 4.1.3 4.1.10"},
		{"the shortest path alone is the head", release.Range{ShortestPath: true}, "4.1.10"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nodes, warnings, err := g.Resolve(tc.r)
			if err != nil || versions(nodes) != tc.want || len(warnings) != 0 {
				t.Errorf("%q, %v, %v; want %q", versions(nodes), warnings, err, tc.want)
			}
		})
	}
	t.Run("no path: both ends and a warning", func(t *testing.T) {
		nodes, warnings, err := g.Resolve(release.Range{Min: "4.1.0-rc.1", Max: "4.1.3", ShortestPath: true})
		if err != nil || versions(nodes) != "4.1.0-rc.1 4.1.3" || len(warnings) != 1 {
			t.Errorf("%q, %q, %v", versions(nodes), warnings, err)
		}
	})
	for name, r := range map[string]release.Range{
		"an empty range":       {Min: "4.1.4", Max: "4.1.9"},
		"above the head":       {Min: "4.2.0"},
		"no start of a path":   {Min: "4.1.7", Max: "4.1.10", ShortestPath: true},
		"no end of a path":     {Min: "4.1.0", Max: "4.1.7", ShortestPath: true},
		"a bound that is none": {Min: "four"},
	} {
		t.Run(name, func(t *testing.T) {
			if nodes, _, err := g.Resolve(r); err == nil {
				t.Errorf("gives %q", versions(nodes))
			}
		})
	}
}

func TestAcross(t *testing.T) {
	graphs := map[string]*release.Graph{
		"stable-4.1": graph("stable-4.1", "4.1.0 4.1.1 4.1.2", "4.1.0>4.1.1", "4.1.0>4.1.2", "4.1.1>4.1.2"),
		"stable-4.2": graph("stable-4.2", "4.1.2 4.2.0 4.2.1", "4.1.2>4.2.0", "4.1.2>4.2.1", "4.2.0>4.2.1"),
		"stable-4.3": graph("stable-4.3", "4.2.1 4.3.0 4.3.1", "4.2.1>4.3.0", "4.3.0>4.3.1"),
		"fast-4.1":   graph("fast-4.1", "4.1.1 4.1.2 4.1.3", "4.1.1>4.1.3"),
		"fast-4.3":   graph("fast-4.3", "4.3.1"),
		"nightly":    graph("nightly", "4.9.0"),
	}
	for _, tc := range []struct {
		name   string
		chosen []string // channel=version of the lowest and highest
		want   string
		warned string
	}{
		{"one channel needs nothing", []string{"stable-4.1=4.1.0"}, "", ""},
		{"two minor versions", []string{"stable-4.1=4.1.0", "stable-4.2=4.2.1"},
			"stable-4.1/4.1.0 stable-4.1/4.1.2 stable-4.2/4.1.2 stable-4.2/4.2.1", ""},
		{"a minor version between that nobody listed", []string{"stable-4.3=4.3.0", "stable-4.1=4.1.1"},
			"stable-4.1/4.1.1 stable-4.1/4.1.2 stable-4.2/4.1.2 stable-4.2/4.2.1 stable-4.3/4.2.1 stable-4.3/4.3.0", ""},
		{"one channel holds both ends", []string{"stable-4.2=4.2.0", "stable-4.2=4.2.1"}, "stable-4.2/4.2.0 stable-4.2/4.2.1", ""},
		{"another prefix of the same minor version", []string{"stable-4.1=4.1.1", "fast-4.1=4.1.3"}, "fast-4.1/4.1.1 fast-4.1/4.1.3", ""},
		{"another prefix that does not have the start", []string{"stable-4.1=4.1.0", "fast-4.1=4.1.3"}, "fast-4.1/4.1.3", "No upgrade path for 4.1.0"},
		{"the goal's channel does not have the head before it", []string{"stable-4.2=4.2.0", "fast-4.3=4.3.1"}, "stable-4.2/4.2.0 stable-4.2/4.2.1 fast-4.3/4.3.1", "No upgrade path for 4.2.1"},
		{"names that say nothing", []string{"stable-4.1=4.1.0", "nightly=4.9.0"}, "", "by their names"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var chosen []release.Chosen
			for _, c := range tc.chosen {
				channel, v, _ := strings.Cut(c, "=")
				chosen = append(chosen, release.Chosen{Channel: channel, Nodes: []release.Node{{Version: semver.MustParse(v)}}})
			}
			passed, warnings, err := release.Across(t.Context(), chosen, func(_ context.Context, name string) (*release.Graph, error) {
				if g := graphs[name]; g != nil {
					return g, nil
				}
				return graph(name, ""), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range passed {
				got = append(got, p.Channel+"/"+p.Node.Version.String())
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("passes %q, want %q", strings.Join(got, " "), tc.want)
			}
			if warned := strings.Join(warnings, "\n"); tc.warned == "" && warned != "" || !strings.Contains(warned, tc.warned) {
				t.Errorf("warns %q, want %q", warned, tc.warned)
			}
		})
	}
	t.Run("a graph that cannot be had is an error", func(t *testing.T) {
		dead := errors.New("dead")
		_, _, err := release.Across(t.Context(), []release.Chosen{
			{Channel: "stable-4.1", Nodes: []release.Node{{Version: semver.MustParse("4.1.0")}}},
			{Channel: "stable-4.2", Nodes: []release.Node{{Version: semver.MustParse("4.2.0")}}},
		}, func(context.Context, string) (*release.Graph, error) { return nil, dead })
		if !errors.Is(err, dead) {
			t.Errorf("error %v", err)
		}
	})
}

const answer = `{"version":1,"nodes":[{"version":"4.1.0","payload":"q.io/r@sha256:a","metadata":{"x":"y"}},{"version":"4.1.1","payload":"q.io/r@sha256:b"}],
"edges":[[0,1]],"conditionalEdges":[{"edges":[],"risks":[]}]}`

// service answers with the given statuses in turn, then with 200.
func service(t *testing.T, statuses ...int) (url string, asked *[]*http.Request) {
	t.Helper()
	asked = new([]*http.Request)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r)
		if n := len(*asked); n <= len(statuses) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(statuses[n-1])
			io.WriteString(w, `{"kind":"bad","value":"because of this"}`)
			return
		}
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/graph?tenant=1", asked
}

func TestClient_Fetch(t *testing.T) {
	url, asked := service(t)
	c := release.Client{URL: url, HTTP: http.DefaultClient}
	g, err := c.Fetch(t.Context(), "stable-4.1", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	if string(g.Raw) != answer || len(g.Nodes) != 2 || len(g.Edges) != 1 {
		t.Errorf("graph %+v", g)
	}
	q := (*asked)[0].URL.Query()
	if q.Get("arch") != "arm64" || q.Get("channel") != "stable-4.1" || q.Get("tenant") != "1" || len(q.Get("id")) != 36 {
		t.Errorf("asked with %v", q)
	}
	if (*asked)[0].Header.Get("Accept") != "application/json" {
		t.Errorf("asked with headers %v", (*asked)[0].Header)
	}
}

func TestClient_retries(t *testing.T) {
	var waits []time.Duration
	sleep := func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	t.Run("while the service is out of order", func(t *testing.T) {
		url, asked := service(t, 503, 429)
		c := release.Client{URL: url, HTTP: http.DefaultClient, Sleep: sleep}
		if _, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err != nil || len(*asked) != 3 {
			t.Fatalf("%v after %d requests", err, len(*asked))
		}
		if len(waits) != 2 || waits[0] != 7*time.Second {
			t.Errorf("waited %v, want what Retry-After says", waits)
		}
	})
	t.Run("until the date that it names", func(t *testing.T) {
		waits = nil
		first := true
		busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if first {
				first = false
				w.Header().Set("Date", "Fri, 20 Nov 2026 22:58:33 GMT")
				w.Header().Set("Retry-After", "Fri, 20 Nov 2026 22:58:53 GMT")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			io.WriteString(w, `{}`)
		}))
		t.Cleanup(busy.Close)
		c := release.Client{URL: busy.URL, HTTP: http.DefaultClient, Sleep: sleep}
		if _, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err != nil || len(waits) != 1 || waits[0] != 20*time.Second {
			t.Errorf("waited %v, %v", waits, err)
		}
	})
	t.Run("within a minute, beyond all sums too", func(t *testing.T) {
		for _, after := range []string{"86400", "9223372036854775807"} {
			waits = nil
			busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", after)
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			t.Cleanup(busy.Close)
			c := release.Client{URL: busy.URL, HTTP: http.DefaultClient, Sleep: sleep}
			_, err := c.Fetch(t.Context(), "stable-4.1", "amd64")
			if err == nil || !strings.Contains(err.Error(), "tried 4 times") || len(waits) != 3 || waits[0] != time.Minute {
				t.Errorf("%s: waited %v, %v", after, waits, err)
			}
		}
	})
	t.Run("not a server whose certificate is not trusted", func(t *testing.T) {
		waits = nil
		unknown := httptest.NewUnstartedServer(http.NotFoundHandler())
		unknown.Config.ErrorLog = log.New(io.Discard, "", 0)
		unknown.StartTLS()
		t.Cleanup(unknown.Close)
		c := release.Client{URL: unknown.URL, HTTP: http.DefaultClient, Sleep: sleep}
		if _, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err == nil || len(waits) != 0 {
			t.Errorf("waited %v, %v", waits, err)
		}
	})
	t.Run("not what will not change, and keeps the reason", func(t *testing.T) {
		url, asked := service(t, 400)
		c := release.Client{URL: url, HTTP: http.DefaultClient, Sleep: sleep}
		_, err := c.Fetch(t.Context(), "stable-4.1", "amd64")
		if len(*asked) != 1 || err == nil || !strings.Contains(err.Error(), "400 Bad Request: because of this") || !strings.Contains(err.Error(), "stable-4.1") {
			t.Errorf("%v after %d requests", err, len(*asked))
		}
	})
	t.Run("not for ever", func(t *testing.T) {
		url, _ := service(t, 500, 500, 500, 500, 500, 500, 500, 500)
		c := release.Client{URL: url, HTTP: http.DefaultClient, Sleep: sleep}
		if _, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err == nil || !strings.Contains(err.Error(), "500") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("not after it was cancelled", func(t *testing.T) {
		url, asked := service(t, 500, 500)
		ctx, cancel := context.WithCancel(t.Context())
		c := release.Client{URL: url, HTTP: http.DefaultClient, Sleep: func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }}
		if _, err := c.Fetch(ctx, "stable-4.1", "amd64"); !errors.Is(err, context.Canceled) || len(*asked) != 1 {
			t.Errorf("%v after %d requests", err, len(*asked))
		}
	})
}

func TestParseGraph_refusesNonsense(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":                `<html>proxy login</html>`,
		"an edge to nowhere":     `{"nodes":[{"version":"4.1.0","payload":"x"}],"edges":[[0,1]]}`,
		"an edge below zero":     `{"nodes":[{"version":"4.1.0","payload":"x"}],"edges":[[-1,0]]}`,
		"a release of nothing":   `{"nodes":[{"version":"4.1.0"}],"edges":[]}`,
		"a version that is none": `{"nodes":[{"version":"four","payload":"x"}],"edges":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if g, err := release.ParseGraph([]byte(text)); err == nil {
				t.Errorf("gives %+v", g)
			}
		})
	}
}

const references = `{"kind":"ImageStream","metadata":{"name":"4.1.0"},"spec":{"tags":[
{"name":"etcd","from":{"kind":"DockerImage","name":"q.io/c@sha256:a"}},{"name":"pod","from":{"kind":"DockerImage","name":"q.io/c@sha256:b"}}]}}`

// entry is a file of a layer; one with kind 0 is a regular file.
type entry struct {
	name, text string
	kind       byte
}

func layer(t *testing.T, zip bool, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = nopCloser{&out}
	if zip {
		w = gzip.NewWriter(&out)
	}
	tw := tar.NewWriter(w)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.text)), Typeflag: e.kind, Format: tar.FormatPAX}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		} else {
			h.Linkname = "elsewhere"
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(tw, e.text)
	}
	if err := errors.Join(tw.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestReadLayer(t *testing.T) {
	const file = "release-manifests/image-references"
	for _, tc := range []struct {
		name    string
		zip     bool
		entries []entry
		want    error
	}{
		{"gzipped", true, []entry{{"etc/x", "x", 0}, {file, references, 0}, {"z", "z", 0}}, nil},
		{"plain", false, []entry{{file, references, 0}}, nil},
		{"with a leading dot", true, []entry{{"./" + file, references, 0}}, nil},
		{"with a leading slash", true, []entry{{"/" + file, references, 0}}, nil},
		{"without it", true, []entry{{"etc/x", "x", 0}}, release.ErrNoReferences},
		{"empty", true, nil, release.ErrNoReferences},
		{"removed", true, []entry{{"release-manifests/.wh.image-references", "", 0}}, release.ErrWhiteout},
		{"its directory removed", true, []entry{{".wh.release-manifests", "", 0}}, release.ErrWhiteout},
		{"its directory emptied", true, []entry{{"release-manifests/.wh..wh..opq", "", 0}}, release.ErrWhiteout},
		{"everything below removed", true, []entry{{".wh..wh..opq", "", 0}}, release.ErrWhiteout},
		{"emptied and brought anew", true, []entry{{"release-manifests/.wh..wh..opq", "", 0}, {file, references, 0}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			source := &ended{Reader: bytes.NewReader(layer(t, tc.zip, tc.entries...))}
			refs, err := release.ReadLayer(source)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if !source.done {
				t.Error("the layer was not read to its end, where its digest is verified")
			}
			if tc.want == nil && (refs.Version != "4.1.0" || fmt.Sprint(refs.Components) != "[{etcd q.io/c@sha256:a} {pod q.io/c@sha256:b}]" || string(refs.Raw) != references) {
				t.Errorf("references %+v", refs)
			}
		})
	}
	t.Run("a link is refused", func(t *testing.T) {
		_, err := release.ReadLayer(bytes.NewReader(layer(t, true, entry{file, "", tar.TypeSymlink})))
		if err == nil || errors.Is(err, release.ErrNoReferences) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a layer that breaks off", func(t *testing.T) {
		whole := layer(t, true, entry{"big", strings.Repeat("x", 1<<16), 0}, entry{file, references, 0})
		if _, err := release.ReadLayer(bytes.NewReader(whole[:len(whole)/2])); err == nil || errors.Is(err, release.ErrNoReferences) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("what the reader says at its end counts", func(t *testing.T) {
		lie := errors.New("other bytes than the digest says")
		whole := io.MultiReader(bytes.NewReader(layer(t, true, entry{file, references, 0})), bytes.NewReader(make([]byte, 1<<16)), &failing{lie})
		if _, err := release.ReadLayer(whole); !errors.Is(err, lie) {
			t.Errorf("error %v", err)
		}
	})
}

// ended notes that it was read to its end.
type ended struct {
	io.Reader
	done bool
}

func (e *ended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.done = e.done || errors.Is(err, io.EOF)
	return n, err
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestParseReferences_refusesNonsense(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":            `x`,
		"another kind":       `{"kind":"List"}`,
		"no component":       `{"kind":"ImageStream","spec":{"tags":[]}}`,
		"a nameless one":     `{"kind":"ImageStream","spec":{"tags":[{"from":{"kind":"DockerImage","name":"x"}}]}}`,
		"one without image":  `{"kind":"ImageStream","spec":{"tags":[{"name":"x","from":{"kind":"DockerImage"}}]}}`,
		"one that is a name": `{"kind":"ImageStream","spec":{"tags":[{"name":"x","from":{"kind":"ImageStreamTag","name":"y"}}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if refs, err := release.ParseReferences([]byte(text)); err == nil {
				t.Errorf("gives %+v", refs)
			}
		})
	}
}
