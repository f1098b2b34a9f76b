//go:build s3

package blobs3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobs3"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// admin returns a client that configures the bucket.
func admin(t *testing.T, s *s3test.Server) *minio.Client {
	t.Helper()
	_, address := s.Address(t, "")
	client, err := minio.New(address.Endpoint.Host, &minio.Options{Region: "us-east-1", Creds: credentials.NewFileAWSCredentials(s.Credentials, "")})
	must(t, err)
	return client
}

// opened opens the storage below a prefix and returns what was logged.
func opened(t *testing.T, s *s3test.Server, prefix string) (storage *blobs3.Storage, logged string, err error) {
	t.Helper()
	var log bytes.Buffer
	_, address := s.Address(t, prefix)
	storage, err = blobs3.Open(t.Context(), blobs3.Options{Address: address, Credentials: s.Credentials, Log: slog.New(slog.NewTextHandler(&log, nil))})
	return storage, log.String(), err
}

func TestOpen_lifecycleRules(t *testing.T) {
	const expires, archives = "<Expiration><Days>30</Days></Expiration>", "<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>"
	ours := "<Filter><Prefix>our/images/</Prefix></Filter>"
	server := s3test.Start(t)
	for name, c := range map[string]struct{ rule, refused string }{
		"that expire our prefix":         {ours + expires, "removes blobs"},
		"that expire a part of it":       {"<Filter><Prefix>our/images/sha256/</Prefix></Filter>" + expires, "removes blobs"},
		"that expire what is around it":  {"<Filter><Prefix>our/</Prefix></Filter>" + expires, "removes blobs"},
		"that expire all":                {"<Filter></Filter>" + expires, "removes blobs"},
		"that expire on a date":          {ours + "<Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>", "removes blobs"},
		"of the old form":                {"<Prefix>our/images</Prefix>" + expires, "removes blobs"},
		"with two conditions":            {"<Filter><And><Prefix>our/</Prefix><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan></And></Filter>" + expires, "removes blobs"},
		"that archive":                   {ours + archives, "archives blobs"},
		"that abort uploads after a day": {ours + "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>", "aborts uploads"},
		"that abort uploads after two":   {ours + "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>", ""},
		"of another prefix":              {"<Filter><Prefix>our/images-of-others/</Prefix></Filter>" + expires + archives, ""},
		"that expire old versions":       {ours + "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>", ""},
	} {
		for _, status := range []string{"Enabled", "Disabled"} {
			t.Run(name+", "+status, func(t *testing.T) {
				server.Lifecycle("<LifecycleConfiguration><Rule><ID>rule-7</ID><Status>" + status + "</Status>" + c.rule + "</Rule></LifecycleConfiguration>")
				_, _, err := opened(t, server, "our/images")
				if c.refused == "" || status == "Disabled" {
					must(t, err)
					return
				}
				if err == nil || !strings.Contains(err.Error(), `"rule-7"`) || !strings.Contains(err.Error(), c.refused) || hint.Of(err) == "" {
					t.Errorf("got %v, hint %q", err, hint.Of(err))
				}
			})
		}
	}
}

func TestOpen_defaultRetention(t *testing.T) {
	server := s3test.Start(t)
	client := admin(t, server)
	must(t, client.EnableVersioning(t.Context(), s3test.Bucket))
	mode, days, unit := minio.Governance, uint(1), minio.Days
	must(t, client.SetObjectLockConfig(t.Context(), s3test.Bucket, &mode, &days, &unit))
	if _, _, err := opened(t, server, ""); err == nil || !strings.Contains(err.Error(), "default retention") || hint.Of(err) == "" {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
}

func TestOpen_versions(t *testing.T) {
	server := s3test.Start(t)
	if _, logged, err := opened(t, server, ""); err != nil || logged != "" {
		t.Errorf("without versions: %v, %s", err, logged)
	}
	must(t, admin(t, server).EnableVersioning(t.Context(), s3test.Bucket))
	s, logged, err := opened(t, server, "")
	must(t, err)
	if !strings.Contains(logged, "keeps old versions") || !strings.Contains(logged, "next=") {
		t.Errorf("logged is %q", logged)
	}
	must(t, place(s, false))
	mustHave(t, s)
	blob := s.Blob(digest.FromBytes(body))
	if _, err := blob.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if err := blob.Check(t.Context(), int64(len(body))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a removed blob: %v", err)
	}
	must(t, place(s, true))
	mustHave(t, s)
}

// Of several stores that claim a storage at once, one has it.
func TestClaim_atOnce(t *testing.T) {
	server := s3test.Start(t)
	storage, _, err := opened(t, server, "shared")
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	const stores = 8
	for i := range stores {
		go func() { errs <- blobstore.Claim(t.Context(), storage, fmt.Sprint("store", i), "a database") }()
	}
	won := 0
	for range stores {
		if err := <-errs; err == nil {
			won++
		} else if !strings.Contains(err.Error(), "has the blobs of another store") || !strings.Contains(hint.Of(err), "remove the object shared/owner of the bucket") {
			t.Errorf("a claim gives %v, hint %q", err, hint.Of(err))
		}
	}
	if won != 1 {
		t.Errorf("%d claims of %d have succeeded", won, stores)
	}
	id, _, err := blobstore.Owner(t.Context(), storage)
	if err != nil {
		t.Fatal(err)
	}
	if err := blobstore.Claim(t.Context(), storage, id, "a database"); err != nil {
		t.Errorf("the owner is refused: %v", err)
	}
}
