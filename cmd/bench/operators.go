package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// scanned is what a process that reads the large catalog says of it.
type scanned struct {
	Bytes  int64
	Saved  int64
	Select time.Duration // reading the saved index, and the heads of every package
}

// measureOperators reads a large catalog of operators in a process with one core.
func measureOperators(ctx context.Context, b *bench) ([]row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "scan-catalog")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, b.progress
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	var found scanned
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		return nil, err
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	what := fmt.Sprintf("a catalog of %d operators, %d bundles, %.2f GB", largePackages, largePackages*largeBundles, float64(found.Bytes)/1e9)
	indexed := row{What: what + ": indexed", Unit: "s of CPU", Value: used.Seconds(), Note: fmt.Sprintf("%.2f MB saved", float64(found.Saved)/1e6)}
	rows := []row{indexed.under(12)}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		rows = append(rows, row{What: what + ": memory", Unit: "MiB", Value: float64(usage.Maxrss) / 1024}.under(100))
	}
	again := row{What: what + ": read its index and filter it again", Unit: "ms", Value: float64(found.Select.Microseconds()) / 1e3}
	rows = append(rows, again.under(500))
	mirrored, err := b.mirrorLarge(ctx)
	return append(rows, mirrored...), err
}

// newScanCommand returns the command that reads the large catalog.
func newScanCommand() *cobra.Command {
	return &cobra.Command{Use: "scan-catalog", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		found, err := scanLarge(cmd.Context())
		if err != nil {
			return err
		}
		return json.NewEncoder(cmd.OutOrStdout()).Encode(found)
	}}
}

func scanLarge(ctx context.Context) (scanned, error) {
	catalog := newLargeCatalog(func(name string) string {
		return "registry.example.com/team/" + name + "@" + digest.FromString(name).String()
	})
	index, err := operator.Scan(ctx, catalog)
	if err != nil {
		return scanned{}, err
	}
	found := scanned{Bytes: int64(len(catalog.filler)) * largePackages * largeBundles}
	var saved bytes.Buffer
	if found.Saved, err = index.WriteTo(&saved); err != nil {
		return found, err
	}
	began := time.Now()
	again, err := operator.ReadIndex(io.Reader(&saved))
	if err != nil {
		return found, err
	}
	selected, err := again.Select(imageset.Operator{}, nil)
	if err != nil {
		return found, err
	}
	found.Select = time.Since(began)
	if len(selected.Bundles) != largePackages {
		return found, fmt.Errorf("%d heads of %d packages", len(selected.Bundles), largePackages)
	}
	return found, nil
}
