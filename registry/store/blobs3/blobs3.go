// Package blobs3 keeps blobs in a bucket of S3. It implements package blobstore.
//
// Open opens the Storage of an address, and checks that the bucket keeps what is put into it. The
// keys are the names of blobfile below the prefix of the address:
//
//	sha256/<2 hex>/<hex>    a blob; likewise sha512
//	uploads/<id>            the bytes of an upload of an unknown blob, while it is placed
//	uploads/<id>.state      what resumes an upload, also in another process
//	quarantine/sha256-<hex> a damaged blob, for people to look at
//	owner                   which store has the storage, see Claim
//	primary                 where its database is, see package fence
//
// A blob is sent in parts, each with its checksum, and no more than two parts of an upload are in
// memory. The parts of a known blob go to its key, and the others to uploads/<id>, from where the
// server copies them. The key has the blob only after the digest was compared.
//
// A request is retried while its failure may pass, and ended while none of its bytes moves. What is left is an error of this package with a
// hint, which is blobstore.ErrUnavailable while the storage does not answer.
//
// Refused: a journal of small blobs (a PUT that was answered is durable), a list as proof that a blob
// is missing (it may be stale), and temporary files (except to follow an upload, see Upload.Open).
package blobs3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

const (
	// partBytes is the size of a part. There are 10,000 of a blob at most.
	partBytes = 8 << 20
	// largest is the size of the largest blob.
	largest = 10000 * partBytes
	// sending is how many uploads have parts in memory at once: the bound of memory is
	// 2 × sending × partBytes.
	sending = 32
	// copyBytes is the size of the largest object that one request copies.
	copyBytes = 5 << 30
)

// Options are the options of Open.
type Options struct {
	Address     s3url.Address
	Credentials string // file of AWS credentials; "": the environment, or the file of AWS
	Log         *slog.Logger

	silence time.Duration // retry.Silence, in tests less
}

// Storage is an open storage in S3. It is safe for concurrent use.
type Storage struct {
	core    minio.Core
	address s3url.Address
	log     *slog.Logger
	places  chan struct{} // of the uploads that have parts in memory
	silence time.Duration // of a request, at most: see listen

	mu         sync.Mutex
	incomplete map[string][]multipart // by upload id, as of the last Uploads
}

// multipart is a multipart upload.
type multipart struct {
	Key string `json:"key"`
	ID  string `json:"id"`

	initiated time.Time
}

// Open opens a storage and checks the bucket, see check.
func Open(ctx context.Context, o Options) (*Storage, error) {
	secure := o.Address.Endpoint.Scheme == "https"
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	transport.MaxIdleConnsPerHost = 2 * sending
	// The number of retries is that of s.do.
	client, err := minio.New(o.Address.Endpoint.Host, &minio.Options{Creds: login(o.Credentials), Secure: secure,
		Region: o.Address.Region, BucketLookup: minio.BucketLookupPath, MaxRetries: 1, Transport: transport})
	if err != nil {
		return nil, &requestError{What: "open the storage " + o.Address.String(), Err: err, hint: hintAddress}
	}
	s := &Storage{core: minio.Core{Client: client}, address: o.Address, log: o.Log, places: make(chan struct{}, sending), silence: cmp.Or(o.silence, retry.Silence)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// login returns the credentials of a file, or of the environment and of the file of AWS.
func login(file string) *credentials.Credentials {
	if file != "" {
		return credentials.NewFileAWSCredentials(file, "")
	}
	return credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
}

// Close implements blobstore.Storage.
func (s *Storage) Close() error { return nil }

// Root implements blobstore.Storage.
func (s *Storage) Root() string { return s.address.String() }

// CheckSize implements blobstore.Storage.
func (s *Storage) CheckSize(bytes int64) error {
	if bytes > largest {
		return &blobstore.TooLargeError{Place: s.Root(), Most: largest}
	}
	return nil
}

// Spool implements blobstore.Storage.
func (s *Storage) Spool() string { return os.TempDir() }

func (s *Storage) key(name string) string { return path.Join(s.address.Prefix, name) }

// name returns the name below the prefix of a key.
func (s *Storage) name(key string) string {
	return strings.TrimPrefix(strings.TrimPrefix(key, s.address.Prefix), "/")
}

func (s *Storage) upload(id string) string { return s.key("uploads/" + id) }
func (s *Storage) state(id string) string  { return s.key("uploads/" + id + ".state") }

// HasBlobs reports whether there is a blob in the storage.
func (s *Storage) HasBlobs(ctx context.Context) (bool, error) {
	for _, a := range blobstore.Algorithms() {
		if _, any, err := s.CheckMounted(ctx, a); any || err != nil {
			return any, err
		}
	}
	return false, nil
}

// CheckMounted implements blobstore.Storage.
func (s *Storage) CheckMounted(ctx context.Context, a digest.Algorithm) (place string, mounted bool, err error) {
	place = s.Root() + ", " + a.String() + "/"
	names, err := s.list(ctx, s.key(a.String())+"/", 1)
	return place, len(names) > 0, err
}

// CheckWritable implements blobstore.Storage.
func (s *Storage) CheckWritable(ctx context.Context) error { return s.tryOut(ctx) }

// stat returns what is known of an object. fs.ErrNotExist.
func (s *Storage) stat(ctx context.Context, what, key string) (info minio.ObjectInfo, err error) {
	err = s.do(ctx, what, func(ctx context.Context) error {
		info, err = s.core.StatObject(ctx, s.address.Bucket, key, minio.StatObjectOptions{})
		return err
	})
	if errors.Is(err, fs.ErrNotExist) { // an answer without a body: the bucket may be missing
		if gone := s.bucketGone(ctx, what); gone != nil {
			return info, gone
		}
	}
	return info, err
}

// bucketGone returns an error unless the bucket exists: without it no blob is known to be lost.
func (s *Storage) bucketGone(ctx context.Context, what string) error {
	return s.do(ctx, what, func(ctx context.Context) error {
		exists, err := s.core.BucketExists(ctx, s.address.Bucket)
		if err == nil && !exists {
			err = minio.ErrorResponse{Code: "NoSuchBucket", StatusCode: http.StatusNotFound}
		}
		return err
	})
}

// remove removes an object, if it exists.
func (s *Storage) remove(ctx context.Context, what, key string) error {
	err := s.do(ctx, what, func(ctx context.Context) error {
		return s.core.RemoveObject(ctx, s.address.Bucket, key, minio.RemoveObjectOptions{})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// list lists at most n objects with a prefix, 0 for all.
func (s *Storage) list(ctx context.Context, prefix string, n int) (all []minio.ObjectInfo, err error) {
	err = s.do(ctx, "list "+prefix+" of "+s.Root(), func(ctx context.Context) error {
		all = nil
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for info := range s.core.Client.ListObjects(ctx, s.address.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, MaxKeys: n}) {
			if info.Err != nil {
				return info.Err
			}
			if all = append(all, info); n > 0 && len(all) == n {
				break
			}
		}
		return nil
	})
	return all, err
}

// copy copies an object within the bucket, also one that is larger than one request copies.
func (s *Storage) copy(ctx context.Context, what, from, to string, size int64) error {
	source := minio.CopySrcOptions{Bucket: s.address.Bucket, Object: from}
	target := minio.CopyDestOptions{Bucket: s.address.Bucket, Object: to}
	return s.doWork(ctx, what, func(ctx context.Context) error {
		if size >= copyBytes {
			_, err := s.core.ComposeObject(ctx, target, source)
			return err
		}
		_, err := s.core.Client.CopyObject(ctx, target, source)
		return err
	})
}

// few is up to how many blobs one list has the names of all parts. More than that a part is listed when it is looked at:
// the names of all would take as much memory as there are blobs.
const few = 10_000

// Part is the blobs with the same first digits.
type part struct {
	s         *Storage
	algorithm digest.Algorithm
	name      string
	names     []string // nil: not listed yet
}

// Parts implements blobstore.Storage. Parts without a blob are left out if there are few blobs.
func (s *Storage) Parts(ctx context.Context, a digest.Algorithm) ([]blobstore.Part, error) {
	prefix := s.key(a.String()) + "/"
	all, err := s.list(ctx, prefix, few+1)
	if err != nil {
		return nil, err
	}
	parts := make([]blobstore.Part, 0, 256)
	if len(all) > few {
		for n := range 256 {
			parts = append(parts, part{s: s, algorithm: a, name: fmt.Sprintf("%02x", n)})
		}
		return parts, nil
	}
	for len(all) > 0 { // sorted by the server
		name, _, _ := strings.Cut(strings.TrimPrefix(all[0].Key, prefix), "/")
		p := part{s: s, algorithm: a, name: name}
		for within := prefix + name + "/"; len(all) > 0 && strings.HasPrefix(all[0].Key, within); all = all[1:] {
			p.names = append(p.names, strings.TrimPrefix(all[0].Key, within))
		}
		if p.names == nil {
			all = all[1:] // beside the parts: not ours
			continue
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (p part) Prefix() string { return p.algorithm.String() + ":" + p.name }

func (p part) Names(ctx context.Context) (names []string, err error) {
	if p.names != nil {
		return p.names, nil
	}
	prefix := p.s.key(p.algorithm.String()+"/"+p.name) + "/"
	all, err := p.s.list(ctx, prefix, 0)
	for _, info := range all { // sorted by the server
		names = append(names, strings.TrimPrefix(info.Key, prefix))
	}
	return names, err
}

func (p part) Digest(name string) (blob digest.Digest, ok bool) {
	blob = digest.NewDigestFromEncoded(p.algorithm, name)
	return blob, image.CheckDigest(blob) == nil && strings.HasPrefix(name, p.name)
}

// TidyQuarantine implements blobstore.Storage.
func (s *Storage) TidyQuarantine(ctx context.Context, keep func(digest.Digest) (bool, error)) error {
	all, err := s.list(ctx, s.key("quarantine")+"/", 0)
	if err != nil {
		return err
	}
	for _, info := range all {
		algorithm, hex, _ := strings.Cut(path.Base(info.Key), "-")
		blob := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
		if image.CheckDigest(blob) != nil { // a name that is not a digest is not ours to delete
			continue
		}
		kept, err := keep(blob)
		if err == nil && !kept {
			err = s.remove(ctx, "remove "+info.Key+" from "+s.Root(), info.Key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
