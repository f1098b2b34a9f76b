//go:build s3

package blobs3_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"testing"

	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/mirror-appliance/appliance/registry/store/blobs3"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/blobstore/blobstoretest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, s *s3test.Server, prefix string) *blobs3.Storage {
	t.Helper()
	_, address := s.Address(t, prefix)
	storage, err := blobs3.Open(context.Background(), blobs3.Options{Address: address, Credentials: s.Credentials})
	must(t, err)
	return storage
}

// put writes an object beside the storage.
func put(t *testing.T, s *s3test.Server, key string, content []byte) {
	t.Helper()
	_, address := s.Address(t, "")
	client, err := minio.NewCore(address.Endpoint.Host, &minio.Options{Region: "us-east-1", Creds: credentials.NewFileAWSCredentials(s.Credentials, "")})
	must(t, err)
	sum := md5.Sum(content)
	_, err = client.PutObject(t.Context(), s3test.Bucket, key, bytes.NewReader(content), int64(len(content)), base64.StdEncoding.EncodeToString(sum[:]), "", minio.PutObjectOptions{})
	must(t, err)
}

func TestConformance(t *testing.T) {
	server := s3test.Start(t)
	prefixes := map[blobstore.Storage]string{}
	blobstoretest.Subject{
		Open: func(t *testing.T) (blobstore.Storage, func() blobstore.Storage) {
			prefix := uuid.NewString()
			s := open(t, server, prefix)
			prefixes[s] = prefix
			return s, func() blobstore.Storage { return open(t, server, prefix) }
		},
		Put: func(t *testing.T, s blobstore.Storage, name string, content []byte) {
			put(t, server, prefixes[s]+"/"+name, content)
		},
	}.Run(t)
}
