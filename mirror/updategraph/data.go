package updategraph

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// maxData bounds an archive of graph data. What it has is bounded by what an update service reads of
// the image that is made of it.
const maxData = graphdata.MaxArchiveBytes

// dataDirectory is where an update service looks for graph data in its image.
const dataDirectory = "var/lib/cincinnati-graph-data"

// DataCommand returns the command of an image with graph data, as the update service's operator
// wants it.
func DataCommand() []string {
	return []string{"/bin/bash", "-c", "exec cp -rp /" + dataDirectory + "/* /var/lib/cincinnati/graph-data"}
}

// FetchData fetches the data from which an update service makes its graphs, an archive. An error
// with a *fetch.StatusError says that the service does not have it.
func (c *Client) FetchData(ctx context.Context) ([]byte, error) {
	base := strings.TrimSuffix(strings.TrimSuffix(c.URL, "/graph"), "/v1")
	at := base + "/graph-data"
	raw, err := fetch.Client{HTTP: c.HTTP, Sleep: c.Sleep}.Get(ctx, at, "application/gzip", maxData)
	if err != nil {
		return nil, hint.New(fmt.Errorf("graph data from %s: %w", plain.Address(at), err),
			"check that this host reaches it (HTTPS_PROXY is honoured), or leave platform.graph out")
	}
	return raw, nil
}

// DataLayer returns a layer of an image, as a tar, with the files of an archive of graph data where
// an update service looks for them. The same files give the same layer.
func DataLayer(data []byte) ([]byte, error) {
	files, err := ReadData(data)
	if err != nil {
		return nil, err
	}
	return writeLayer(files)
}

// ReadData returns the files of an archive of graph data, by their names in it, and with a slash at the end
// the directories that must be there.
func ReadData(data []byte) (map[string][]byte, error) {
	files, err := readData(data)
	if err == nil && len(files) == 0 {
		err = errors.New("the archive is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("graph data: %w", err)
	}
	return files, nil
}

// readData returns the files of a gzipped tar.
func readData(data []byte) (map[string][]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	files, rest := map[string][]byte{}, int64(graphdata.MaxArchiveBytes)
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)[1:]
		if h.Typeflag == tar.TypeDir && graphdata.IsFile(name+"/") {
			files[name+"/"] = nil // it may be empty
		}
		if h.Typeflag != tar.TypeReg {
			continue // other directories are made anew, and a link leads nowhere in another place
		}
		if name == "" || h.Size > rest || len(files) == graphdata.MaxArchiveFiles {
			return nil, fmt.Errorf("more than %d files or %d bytes, or a file without a name", graphdata.MaxArchiveFiles, graphdata.MaxArchiveBytes)
		}
		text, err := io.ReadAll(io.LimitReader(t, h.Size))
		if err != nil {
			return nil, err
		}
		rest -= int64(len(text))
		files[name] = text
	}
}

// writeLayer writes files and the directories above them, in order, with one time and owner.
func writeLayer(files map[string][]byte) ([]byte, error) {
	all := map[string][]byte{} // a directory has nil
	for name, text := range files {
		at := path.Join(dataDirectory, name)
		isDirectory := strings.HasSuffix(name, "/")
		if was, ok := all[at]; ok && (was != nil || !isDirectory) {
			return nil, fmt.Errorf("graph data: %s is a file and a directory", name)
		}
		if all[at] = nil; !isDirectory {
			all[at] = append([]byte{}, text...) // not nil
		}
		for dir := path.Dir(at); dir != "."; dir = path.Dir(dir) {
			if all[dir] != nil {
				return nil, fmt.Errorf("graph data: %s is a file and a directory", dir)
			}
			all[dir] = nil
		}
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644,
			Size: int64(len(all[name])), ModTime: time.Unix(0, 0)}
		if all[name] == nil {
			h.Name, h.Typeflag, h.Mode = name+"/", tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(all[name]); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return layer.Bytes(), err
}
