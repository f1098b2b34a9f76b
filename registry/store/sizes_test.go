package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestStore_PutManifest_sizes pushes images that say of a blob another size than it has.
func TestStore_PutManifest_sizes(t *testing.T) {
	f := newFixture(t)
	config, layer := f.blob("app", "{}"), f.blob("app", "a layer")
	body := func(config, layer ocispec.Descriptor, more string) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}%s]}`,
			ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, config.Digest, config.Size, ocispec.MediaTypeImageLayer, layer.Digest, layer.Size, more)
	}
	other := func(d ocispec.Descriptor, by int64) ocispec.Descriptor { d.Size += by; return d }
	again := fmt.Sprintf(`,{"mediaType":%q,"digest":%q,"size":%d}`, ocispec.MediaTypeImageLayer, layer.Digest, layer.Size+1)
	for name, bad := range map[string][]byte{
		"a layer that is said to be longer":  body(config, other(layer, 1), ""),
		"a layer that is said to be shorter": body(config, other(layer, -1), ""),
		"a config":                           body(other(config, 1), layer, ""),
		"a layer that is named twice":        body(config, layer, again),
	} {
		t.Run(name, func(t *testing.T) {
			_, pushed := f.Manifests.Put(f.ctx, "app", bad, PutOptions{Tags: []string{"v1"}})
			run, err := f.Runs.Begin(f.ctx, "sync")
			f.must(err)
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(bad), Size: int64(len(bad))}
			for way, err := range map[string]error{"a push": pushed, "a run": run.PutManifest(f.ctx, "app", desc, bad)} {
				if !errors.As(err, new(*InvalidError)) || !strings.Contains(err.Error(), "bytes") {
					t.Errorf("%s: got %v", way, err)
				}
			}
			f.must(run.Abort(f.ctx))
		})
	}
	// An upstream's manifest comes before its layers. One that contradicts itself
	// can be told all the same.
	if _, err := f.Manifests.PutPulled(f.ctx, "up", body(config, layer, again), PutOptions{}); !errors.As(err, new(*InvalidError)) {
		t.Errorf("pulled through: got %v", err)
	}
	_, err := f.Manifests.PutPulled(f.ctx, "up", body(config, other(layer, 1<<50), ""), PutOptions{})
	f.must(err)
	good, err := f.Manifests.Put(f.ctx, "app", body(config, layer, ""), PutOptions{})
	f.must(err)
	report, err := f.Integrity().Verify(f.ctx, VerifyOptions{})
	f.must(err)
	if len(report.Problems) != 0 {
		t.Errorf("verify finds %v", report.Problems)
	}
	// One that an older version let in is told; that of the upstream is not.
	bad := body(config, other(layer, 1), "")
	m, p, err := f.newManifest(bad, "", "")
	f.must(err)
	f.must(f.db.Share(f.ctx, func(ctx context.Context, tx *sql.Tx) error {
		return errors.Join(insertManifest(ctx, tx, &m, p), f.showManifest(ctx, tx, "app", &m, p, byPush, nil))
	}))
	report, err = f.Integrity().Verify(f.ctx, VerifyOptions{})
	f.must(err)
	if len(report.Problems) != 1 || report.Problems[0].Name != m.Digest.String() || !strings.Contains(report.Problems[0].What, "has 8 bytes, which has 7") || report.Problems[0].Name == good.Digest.String() {
		t.Errorf("verify finds %v", report.Problems)
	}
}
