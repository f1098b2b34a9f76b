package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	updateReleases  = 200
	updateChannels  = 12   // each has all releases, so that each answer is the largest there is
	updateBlocks    = 1700 // files of graph data, as many as the real one has
	updateSlice     = 2 * time.Second
	graphLimit      = 300 // milliseconds for an answer that was not asked for before
	graphRepository = "openshift/graph-image"
	releaseImages   = "openshift/release-images"
)

func updateArchitectures() []string { return []string{"amd64", "arm64", "ppc64le", "s390x"} }

// measureUpdates asks for update graphs: at first, when they have to be computed, and then as a fleet does.
func measureUpdates(ctx context.Context, b *bench) (rows []row, err error) {
	subject, control, err := b.startSubject(ctx, subjectName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, subject.stop()) }()
	defer control.Close()
	client := newClient(b.site, subject, h1)
	defer client.close()
	if err := fillUpdates(ctx, client); err != nil {
		return nil, err
	}
	fmt.Fprintf(b.progress, "updates: pushed %d releases for %d architectures\n", updateReleases, len(updateArchitectures()))
	if err := awaitGraph(ctx, client); err != nil {
		return nil, err
	}
	first, err := firstGraphs(ctx, client)
	if err != nil {
		return nil, err
	}
	memory := row{What: "update graphs: memory of the registry", Unit: "MiB", Note: "with all answers kept"}
	if memory.Value, err = subject.memory("VmHWM"); err != nil {
		return nil, err
	}
	kept, err := b.keptGraphs(ctx, client)
	return append([]row{first, memory}, kept...), err
}

// firstGraphs asks for each answer once.
func firstGraphs(ctx context.Context, c *client) (row, error) {
	slowest := 0.0
	for n := 1; n < updateChannels; n++ { // awaitGraph has asked for that of channel 0
		for _, arch := range updateArchitectures() {
			began := time.Now()
			if _, err := c.get(ctx, graphOf(n, arch)); err != nil {
				return row{}, err
			}
			slowest = max(slowest, milliseconds(time.Since(began)))
		}
	}
	return row{What: fmt.Sprintf("an update graph of %d releases that was not asked for before", updateReleases), Unit: "ms", Value: slowest,
		Note: "the slowest of all answers"}.under(graphLimit), nil
}

// keptGraphs compares the answers that are kept with a manifest of the same size.
func (b *bench) keptGraphs(ctx context.Context, c *client) ([]row, error) {
	const zipped = "Accept: application/json\r\nAccept-Encoding: gzip\r\n"
	w, err := dialWire(ctx, b.site, c.server)
	if err != nil {
		return nil, err
	}
	defer w.conn.Close()
	size, err := w.do(w.request(graphOf(0, "amd64"), zipped))
	if err != nil {
		return nil, err
	}
	path, err := pushOfSize(ctx, c, int(size))
	if err != nil {
		return nil, err
	}
	const manifest = "manifest"
	speed, cost := series{}, series{}
	for round := range b.rounds + 1 {
		for _, one := range []struct {
			name, path string
			more       []string
		}{{subjectName, graphOf(0, "amd64"), []string{zipped}}, {manifest, path, nil}} {
			perSecond, cpu, err := b.hammer(ctx, c.server, updateSlice, func() string { return one.path }, one.more...)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				speed.add(one.name, perSecond)
				cost.add(one.name, cpu)
			}
		}
	}
	what := fmt.Sprintf("an update graph that is kept, %d KB", size>>10)
	rows := []row{versus(what, "requests/s", speed, manifest, 0.95), versus(what+", CPU", "µs/request", cost, manifest, 0)}
	rows[1].Target, rows[1].Verdict = "", ""
	for i := range rows {
		rows[i].Note = "the probe is a manifest of the same size"
	}
	return rows, nil
}

func graphOf(channel int, arch string) string {
	return fmt.Sprintf("/api/upgrades_info/v1/graph?channel=stable-%d&arch=%s", channel, arch)
}

// awaitGraph waits until the registry has read all that was pushed.
func awaitGraph(ctx context.Context, c *client) error {
	for range 120 {
		n, err := graphNodes(ctx, c)
		if err != nil || n == updateReleases {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return errors.New("the update graph never has all releases")
}

// graphNodes returns how many releases a graph has, 0 if there is none yet.
func graphNodes(ctx context.Context, c *client) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+hostname+graphOf(0, "s390x"), nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var graph struct{ Nodes []struct{} }
	if resp.StatusCode == http.StatusOK {
		err = json.NewDecoder(resp.Body).Decode(&graph)
	}
	return len(graph.Nodes), err
}

// pushOfSize pushes a manifest of a size, and returns its path.
func pushOfSize(ctx context.Context, c *client, size int) (string, error) {
	i, err := newImage("updates", 1, 1000)
	if err != nil {
		return "", err
	}
	pad := size - len(i.manifest) - len(`"annotations":{"bench":""},`)
	i.manifest = bytes.Replace(i.manifest, []byte(`{`), fmt.Appendf(nil, `{"annotations":{"bench":"%s"},`, strings.Repeat("a", max(pad, 1))), 1)
	i.digest = digest.FromBytes(i.manifest)
	return "/v2/bench/updates/manifests/" + i.digest.String(), c.pushImage(ctx, "bench/updates", "sized", i)
}

// fillUpdates pushes releases, each of which all before it can be updated to, and graph data.
func fillUpdates(ctx context.Context, c *client) error {
	var before []string
	for n := range updateReleases {
		version := releaseVersion(n)
		for _, arch := range updateArchitectures() {
			text, err := json.Marshal(map[string]any{"kind": "cincinnati-metadata-v0", "version": version, "previous": append([]string{}, before...),
				"metadata": map[string]string{"url": "https://access.redhat.com/errata/RHBA-2025:" + version}})
			if err != nil {
				return err
			}
			if err := pushFiles(ctx, c, releaseImages, version+"-"+arch, arch, map[string]string{"release-manifests/release-metadata": string(text)}); err != nil {
				return err
			}
		}
		before = append(before, version)
	}
	return pushFiles(ctx, c, graphRepository, "latest", "amd64", generatedGraphData())
}

func releaseVersion(n int) string { return fmt.Sprintf("4.%d.%d", 12+n/25, n%25) }

// generatedGraphData returns graph data with channels of all releases, and as many risks as the real one has.
func generatedGraphData() map[string]string {
	const dir = "var/lib/cincinnati-graph-data/"
	files := map[string]string{dir + "version": "1.1.0\n", dir + "raw/metadata.json": "{}"}
	var versions strings.Builder
	for n := range updateReleases {
		fmt.Fprintf(&versions, "- %s\n", releaseVersion(n))
	}
	for n := range updateChannels {
		files[fmt.Sprintf("%schannels/stable-%d.yaml", dir, n)] = fmt.Sprintf("name: stable-%d\nversions:\n%s", n, versions.String())
	}
	for n := range updateBlocks {
		to := releaseVersion(n % updateReleases)
		files[fmt.Sprintf("%sblocked-edges/%s-%d.yaml", dir, to, n)] = fmt.Sprintf(
			"to: %s\nfrom: ^4[.]1[%d][.][0-9][+].*$\nurl: https://issues.redhat.com/browse/OCPBUGS-%d\nname: Risk%d\nmessage: %s\nmatchingRules: [{type: PromQL, promql: {promql: 'group(kube_node_info{x=\"%d\"})'}}]\n",
			to, n%10, n, n%124, strings.Repeat("Some clusters may have trouble. ", 6), n)
	}
	return files
}

// pushFiles pushes an image with files in one layer.
func pushFiles(ctx context.Context, c *client, repo, tag, arch string, files map[string]string) error {
	var layer bytes.Buffer
	z := gzip.NewWriter(&layer)
	t := tar.NewWriter(z)
	for name, text := range files {
		if err := t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := t.Write([]byte(text)); err != nil {
			return err
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return err
	}
	i := image{blobs: [][]byte{fmt.Appendf(nil, `{"architecture":%q,"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`, arch), layer.Bytes()}}
	describe := func(mediaType string, content []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	}
	var err error
	i.manifest, err = json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, i.blobs[0]), Layers: []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayerGzip, i.blobs[1])}})
	if err != nil {
		return err
	}
	return c.pushImage(ctx, repo, tag, i)
}
