package adopt

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// Made is what a mirror-registry makes in a directory. All else there is its user's.
type Made struct {
	Dir  string
	What string // it is, such as images

	names []string // patterns of path.Match; of a directory with a slash at the end
	blobs bool
}

// Knows reports whether the mirror-registry makes a file or a directory of this name, relative to Dir.
func (m Made) Knows(name string, dir bool) bool {
	if !dir && m.blobs && isBlobName(name) {
		return true
	}
	if dir {
		name += "/"
	}
	return slices.ContainsFunc(m.names, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

// Made lists what the mirror-registry makes, in the order in which it is to be removed: images, the
// database that tells of them, the rest, and last the configuration by which FindQuay finds the others. A
// directory may come twice. What is not known any more is left out.
func (q QuayInstall) Made() (all []Made) {
	rest, config := rootNames2(), "quay-config/config.yaml"
	if q.Version3 {
		rest, config = rootNames3(), "config.yaml"
	}
	for _, m := range []Made{
		{q.Storage, "images", storageNames(), true},
		{filepath.Dir(q.Database), "database", databaseNames(filepath.Base(q.Database)), false},
		{q.Root, "certificates and keys", rest, false},
		{q.Root, "configuration", append(slices.Clone(rest), config), false},
	} {
		if filepath.IsAbs(m.Dir) {
			all = append(all, m)
		}
	}
	return all
}

// rootNames2 are those of mirror-registry's tasks. Archives of its container images are left out: it makes
// them on a remote host only, on others they are a user's download.
func rootNames2() []string {
	names := []string{"quay-config/", "quay-rootCA/", "quay-postgres-backup/", "quay-postgres-backup/data/"}
	for dir, in := range map[string][]string{
		"quay-config": {"openssl.cnf", "ssl.key", "ssl.csr", "ssl.cert", "chain.cert"},
		"quay-rootCA": {"rootCA.key", "rootCA.pem", "rootCA.srl"},
		// of an upgrade from 1.x
		"quay-postgres-backup": append(databaseNames(sqliteName), "pg_dump.sh", "pg_data_dump.sql", "pg_to_sqlite.sh",
			"transformed_pgdata.sql", "sqlite_schema_dump.sql", "merged_sqlite.sql"),
		"quay-postgres-backup/data": databaseNames(sqliteName),
	} {
		for _, name := range in {
			names = append(names, dir+"/"+name)
		}
	}
	return names
}

// rootNames3 are those of internal/installer, internal/migrate and internal/registry/jwtauth of quay/quay,
// with what they leave when they are killed.
func rootNames3() []string {
	return []string{"auth/", "auth/admin-password", "auth/.credential-*/", "auth/.credential-*/admin-password",
		"ssl.cert", "ssl.key", ".tls-update-*/", ".tls-update-*/ssl.cert", ".tls-update-*/ssl.key",
		".tls-update-*/ssl.cert.rollback", ".tls-update-*/ssl.key.rollback",
		"rootCA.pem", "registry-jwt.pem", ".registry-jwt-*", ".migration-in-progress"}
}

// databaseNames are those of SQLite, and of the backups that a mirror-registry 3 makes before it migrates.
func databaseNames(name string) []string {
	const digit = "[0-9]"
	backup := name + ".backup-" + strings.Repeat(digit, 8) + "T" + strings.Repeat(digit, 6) + "Z"
	return []string{name, name + walSuffix, name + "-shm", name + "-journal", backup}
}

// storageNames are those of Quay's LocalStorage and of the storage of version 3, whose uploads are
// directories. Files of blobs are told by isBlobName.
func storageNames() []string {
	const hex = "[0-9a-f]"
	four := strings.Repeat(hex, 4)
	upload := "uploads/" + four + four + "-" + four + "-" + four + "-" + four + "-" + four + four + four
	return []string{"sha256/", "sha256/" + hex + hex + "/", "sha256/" + hex + hex + "/.blob-[0-9]*",
		"uploads/", upload, upload + "/", upload + "/data", upload + "/startedat",
		upload + "/hashstates/", upload + "/hashstates/sha256/", upload + "/hashstates/sha256/[0-9]*"}
}

// blobName returns the name of a blob's file in the storage of either version.
func blobName(d digest.Digest) string {
	return path.Join(d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

func isBlobName(name string) bool {
	d := digest.NewDigestFromEncoded(digest.SHA256, path.Base(name))
	return image.CheckDigest(d) == nil && blobName(d) == name
}

// HasBlobs reports whether there are images in the storage, or whether that cannot be told.
func (q QuayInstall) HasBlobs() bool {
	if q.Storage == "" {
		return false
	}
	errFound := errors.New("found")
	err := fs.WalkDir(os.DirFS(q.Storage), "sha256", func(name string, _ fs.DirEntry, err error) error {
		if err == nil && isBlobName(name) {
			err = errFound
		}
		return err
	})
	return err != nil && !errors.Is(err, fs.ErrNotExist)
}
