package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/helm"
)

// TestMain is this program, where a test started it.
func TestMain(m *testing.M) {
	if os.Getenv("APPLIANCE_HELM_TEST") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func start(ctx context.Context) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "APPLIANCE_HELM_TEST=1")
	return cmd, nil
}

func archive(t *testing.T, template string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, f := range [][2]string{{"app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.2.3\n"}, {"app/templates/a.yaml", template}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestProcess(t *testing.T) {
	render := helm.Process(start)
	t.Run("a chart", func(t *testing.T) {
		r, err := render(t.Context(), helm.Chart{Archive: archive(t, "spec: {containers: [{image: q.io/a:1}]}\n")})
		if err != nil || r.Name != "app" || r.Version != "1.2.3" || !slices.Equal(r.Images, []string{"q.io/a:1"}) {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("a chart that fails has its name", func(t *testing.T) {
		r, err := render(t.Context(), helm.Chart{Archive: archive(t, `{{ required "set the tag" .Values.tag }}`)})
		if err == nil || !strings.Contains(err.Error(), "set the tag") || r.Name != "app" {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("hints arrive", func(t *testing.T) {
		_, err := render(t.Context(), helm.Chart{Archive: archive(t, ""), ImagePaths: []string{"{.x"}})
		if hint.Of(err) == "" {
			t.Errorf("%v has no hint", err)
		}
	})
	t.Run("a template without end is stopped", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stopping := helm.Process(func(ctx context.Context) (*exec.Cmd, error) {
			go cancel()
			return start(ctx)
		})
		_, err := stopping(ctx, helm.Chart{Archive: archive(t, "{{ range until 99999 }}{{ range until 99999 }}{{ end }}{{ end }}")})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a program that ends early", func(t *testing.T) {
		broken := helm.Process(func(ctx context.Context) (*exec.Cmd, error) {
			return exec.CommandContext(ctx, "/bin/sh", "-c", "cat >/dev/null; echo one >&2; echo two >&2; exit 3"), nil
		})
		if _, err := broken(t.Context(), helm.Chart{}); err == nil || !strings.Contains(err.Error(), "exit status 3: two") {
			t.Errorf("error %v", err)
		}
	})
}
