package blobs3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// shortestAbort is after how many days a lifecycle rule may abort multipart uploads: an upload is
// abandoned after a day.
const shortestAbort = 2

// check returns an error unless the bucket exists, takes, returns and lists an object and removes it,
// and keeps all others. What the credentials may not ask for is not checked.
func (s *Storage) check(ctx context.Context) error {
	if err := s.tryOut(ctx); err != nil {
		return err
	}
	if err := s.checkLifecycle(ctx); err != nil {
		return err
	}
	if err := s.checkRetention(ctx); err != nil {
		return err
	}
	return s.checkVersions(ctx)
}

func (s *Storage) checkRetention(ctx context.Context) error {
	var retention *minio.RetentionMode
	err := s.ask(ctx, "look at the retention of "+s.Root(), func(ctx context.Context) (err error) {
		_, retention, _, _, err = s.core.GetObjectLockConfig(ctx, s.address.Bucket)
		return err
	})
	if err == nil && retention != nil {
		err = hint.New(fmt.Errorf("the bucket of %s has a default retention: nothing can be removed from it", s.Root()),
			"remove the default retention of the bucket, or name a bucket without one in `storage:`")
	}
	return err
}

// checkVersions warns of a bucket that keeps old versions.
func (s *Storage) checkVersions(ctx context.Context) error {
	var versioning minio.BucketVersioningConfiguration
	err := s.ask(ctx, "look at the versions of "+s.Root(), func(ctx context.Context) (err error) {
		versioning, err = s.core.GetBucketVersioning(ctx, s.address.Bucket)
		return err
	})
	if err == nil && versioning.Enabled() {
		s.log.Warn("the bucket keeps old versions: what is removed takes space until a lifecycle rule removes its versions",
			"storage", s.Root(), "next", "add a lifecycle rule that removes noncurrent versions after a day, or suspend versioning")
	}
	return err
}

// ask makes a request that servers may not know, and that the credentials may not make: an error is that of a storage
// that hangs, or of ctx.
func (s *Storage) ask(ctx context.Context, what string, request func(context.Context) error) error {
	err := s.do(ctx, what, request)
	if errors.As(err, new(*silentError)) || ctx.Err() != nil {
		return err
	}
	return nil
}

// tryOut writes, reads, lists and removes an object.
func (s *Storage) tryOut(ctx context.Context) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	key, body := s.upload(id.String()), []byte(id.String()) // collected as an upload after a crash
	if err := s.put(ctx, "write to "+s.Root(), key, body, minio.PutObjectOptions{}); err != nil {
		return err
	}
	err = s.do(ctx, "read from "+s.Root(), func(ctx context.Context) error {
		content, _, _, err := s.core.GetObject(ctx, s.address.Bucket, key, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		got, err := io.ReadAll(io.LimitReader(content, 1000))
		if err == nil && !bytes.Equal(got, body) {
			err = errors.New("it returns other bytes than were written")
		}
		return errors.Join(err, content.Close())
	})
	if err == nil {
		_, err = s.list(ctx, key, 1)
	}
	return errors.Join(err, s.remove(ctx, "remove from "+s.Root(), key))
}

// checkLifecycle returns an error if a rule of the bucket removes blobs, makes them unreadable, or
// removes uploads that are not abandoned.
func (s *Storage) checkLifecycle(ctx context.Context) error {
	var rules *lifecycle.Configuration
	err := s.ask(ctx, "look at the lifecycle rules of "+s.Root(), func(ctx context.Context) (err error) {
		rules, err = s.core.GetBucketLifecycle(ctx, s.address.Bucket)
		return err
	})
	if err != nil || rules == nil {
		return err
	}
	for _, rule := range rules.Rules {
		if !strings.EqualFold(rule.Status, "Enabled") || !s.concerned(rule) {
			continue
		}
		what := ""
		switch days := rule.AbortIncompleteMultipartUpload.DaysAfterInitiation; {
		case rule.Expiration.Days > 0 || !rule.Expiration.Date.IsZero():
			what = "removes blobs"
		case rule.Transition.StorageClass == "GLACIER" || rule.Transition.StorageClass == "DEEP_ARCHIVE":
			what = "archives blobs, which cannot be read from then on"
		case days > 0 && int(days) < shortestAbort:
			what = "aborts uploads that are under way"
		default:
			continue
		}
		return hint.New(fmt.Errorf("the lifecycle rule %q of the bucket of %s %s", rule.ID, s.Root(), what),
			"remove the rule, or limit it to another prefix")
	}
	return nil
}

// concerned reports whether a rule may apply to our keys.
func (s *Storage) concerned(rule lifecycle.Rule) bool {
	prefix := rule.RuleFilter.Prefix
	if prefix == "" {
		prefix = rule.RuleFilter.And.Prefix
	}
	if prefix == "" {
		prefix = rule.Prefix
	}
	ours := s.key("") + "/"
	if ours == "/" {
		ours = ""
	}
	return strings.HasPrefix(ours, prefix) || strings.HasPrefix(prefix, ours)
}
