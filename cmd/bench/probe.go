package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	probeName   = "probe"
	bigWindow   = 16 << 20 // what the daemon allows, so that the probe is not held up where the daemon is not
	copyBuffer  = 32 << 10
	wideBuffer  = 256 << 10
	writeBehind = 8 << 20 // bytes received before the disk is told to begin with them
	probeEmpty  = "/empty"
	probeFile   = "/file/"
	probeUpload = "/upload"
)

// newProbeCommand serves the probes: what net/http and crypto/tls cost with nothing of a registry in it.
func newProbeCommand() *cobra.Command {
	var window int
	cmd := &cobra.Command{
		Use: "probe SITE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openSite(args[0])
			if err != nil {
				return err
			}
			l, err := handedListener()
			if err != nil {
				return err
			}
			srv := &http.Server{Handler: probes(s.path("probe")), ReadHeaderTimeout: 15 * time.Second}
			if window > 0 { // 0: Go's own
				srv.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: window, MaxReceiveBufferPerStream: window}
			}
			var g errgroup.Group
			g.Go(func() error { return srv.ServeTLS(l, s.cert(), s.key()) })
			<-cmd.Context().Done()
			if err := errors.Join(srv.Close(), g.Wait()); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&window, "window", bigWindow, "HTTP/2 receive window; 0 for Go's default")
	return cmd
}

func probes(dir string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+probeEmpty, func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET "+probeFile+"{name}", func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(filepath.Join(dir, filepath.Base(r.PathValue("name"))))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(wide{w}, r, "", time.Time{}, f)
	})
	mux.HandleFunc("PUT "+probeUpload, func(w http.ResponseWriter, r *http.Request) {
		sum, err := receive(dir, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Docker-Content-Digest", "sha256:"+sum)
		w.Header().Set("Content-Length", strconv.Itoa(0))
		w.WriteHeader(http.StatusCreated)
	})
	return mux
}

// wide copies an answer in large pieces, which HTTP/2 sends faster than those of io.Copy.
type wide struct{ http.ResponseWriter }

func (w wide) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w.ResponseWriter}, struct{ io.Reader }{r}, make([]byte, wideBuffer))
}

// receive hashes, writes and syncs, and nothing else. The disk begins while the body still arrives, as it does for
// the daemon: left to the sync, it would idle until the end.
func receive(dir string, body io.Reader) (string, error) {
	f, err := os.CreateTemp(dir, "upload-")
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	buffer := make([]byte, copyBuffer)
	var written, begun int64
	for {
		n, readErr := io.ReadFull(body, buffer)
		if _, err := f.Write(buffer[:n]); err != nil {
			return "", err
		}
		h.Write(buffer[:n])
		if written += int64(n); written-begun >= writeBehind {
			if err := unix.SyncFileRange(int(f.Fd()), begun, written-begun, unix.SYNC_FILE_RANGE_WRITE); err != nil {
				return "", err
			}
			begun = written
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return "", readErr
		}
	}
	return hex.EncodeToString(h.Sum(nil)), f.Sync()
}
