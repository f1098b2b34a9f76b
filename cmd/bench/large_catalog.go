package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// The largest public catalogs have as many packages and bundles, and as much JSON.
const (
	largePackages = 300
	largeBundles  = 34 // of each package
	largeBundle   = 105_000
)

// largeCatalog is a catalog whose files are made while they are read: <package>/catalog.json.
type largeCatalog struct {
	filler []byte
	bundle string // the image of every bundle
}

// largeImages are the names of the images that each bundle of the large catalog is made of. The first is the bundle's own.
func largeImages() []string {
	names := []string{"bundle"}
	for i := range 20 {
		names = append(names, fmt.Sprintf("component-%d", i))
	}
	return names
}

// newLargeCatalog returns a catalog whose bundles have what real ones have most of: objects in base64, JSON inside
// strings, and lists of images. image gives the reference of one by its name.
func newLargeCatalog(image func(name string) string) *largeCatalog {
	var b bytes.Buffer
	object := bytes.Repeat([]byte("apiVersion: operators.coreos.com/v1alpha1\n"), 900)
	fmt.Fprintf(&b, `{"type":"olm.bundle.object","value":{"data":%q}},`, base64.StdEncoding.EncodeToString(object))
	examples := strings.Repeat(`[{\"apiVersion\": \"example.com/v1\", \"kind\": \"Example\", \"spec\": {\"size\": 3}}]\n`, 300)
	fmt.Fprintf(&b, `{"type":"olm.csv.metadata","value":{"annotations":{"alm-examples":"%s"},"links":[`, examples)
	for i := 0; b.Len() < largeBundle; i++ {
		fmt.Fprintf(&b, `{"name":"Documentation %d","url":"https://docs.example.com/%d","ready":true,"weight":%d.5},`, i, i, i)
	}
	b.WriteString(`{}]}}],"relatedImages":[`)
	for i, name := range largeImages() {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":%q,"image":%q}`, name, image(name))
	}
	b.WriteString("]}\n")
	return &largeCatalog{filler: b.Bytes(), bundle: image(largeImages()[0])}
}

// Open implements fs.FS.
func (c *largeCatalog) Open(name string) (fs.File, error) {
	dir, base := path.Split(name)
	switch {
	case name == ".":
		root := &madeFile{madeInfo: madeInfo{name: name, dir: true}}
		for i := range largePackages {
			root.entries = append(root.entries, fs.FileInfoToDirEntry(madeInfo{name: fmt.Sprintf("package-%03d", i), dir: true}))
		}
		return root, nil
	case dir == "" && strings.HasPrefix(base, "package-"):
		return &madeFile{madeInfo: madeInfo{name: name, dir: true}, entries: []fs.DirEntry{fs.FileInfoToDirEntry(madeInfo{name: "catalog.json"})}}, nil
	case base == "catalog.json":
		return &madeFile{madeInfo: madeInfo{name: base}, Reader: io.MultiReader(c.pack(strings.TrimSuffix(dir, "/"))...)}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// pack returns what the file of a package has.
func (c *largeCatalog) pack(name string) []io.Reader {
	var head strings.Builder
	fmt.Fprintf(&head, `{"schema":"olm.package","name":%q,"defaultChannel":"stable"}`+"\n", name)
	fmt.Fprintf(&head, `{"schema":"olm.channel","package":%q,"name":"stable","entries":[{"name":"%s.v1.0.0"}`, name, name)
	for i := 1; i < largeBundles; i++ {
		fmt.Fprintf(&head, `,{"name":"%s.v1.%d.0","replaces":"%s.v1.%d.0"}`, name, i, name, i-1)
	}
	head.WriteString("]}\n")
	readers := []io.Reader{strings.NewReader(head.String())}
	for i := range largeBundles {
		bundle := fmt.Sprintf(`{"schema":"olm.bundle","name":"%s.v1.%d.0","package":%q,"image":%q,"properties":[`+
			`{"type":"olm.package","value":{"packageName":%q,"version":"1.%d.0"}},{"type":"olm.gvk","value":{"group":"example.com","version":"v1","kind":"K%s"}},`, name, i, name, c.bundle, name, i, name)
		readers = append(readers, strings.NewReader(bundle), bytes.NewReader(c.filler))
	}
	return readers
}

// madeInfo describes a file that is made.
type madeInfo struct {
	name string
	dir  bool
}

func (m madeInfo) Name() string       { return path.Base(m.name) }
func (m madeInfo) Size() int64        { return 0 }
func (m madeInfo) ModTime() time.Time { return time.Time{} }
func (m madeInfo) IsDir() bool        { return m.dir }
func (m madeInfo) Sys() any           { return nil }
func (m madeInfo) Mode() fs.FileMode {
	if m.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// madeFile is an open file or directory.
type madeFile struct {
	madeInfo
	io.Reader
	entries []fs.DirEntry
}

func (f *madeFile) Stat() (fs.FileInfo, error) { return f.madeInfo, nil }
func (f *madeFile) Close() error               { return nil }

// ReadDir implements fs.ReadDirFile for a caller that reads all at once.
func (f *madeFile) ReadDir(int) ([]fs.DirEntry, error) { return f.entries, nil }
