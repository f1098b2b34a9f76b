package blobs3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

const (
	hintAddress = "compare `storage:` in config.yaml with the bucket and the endpoint of the storage"
	hintAccess  = "check that the credentials in the environment or in the file of `storageCredentials:` may read, write, list and delete in the bucket"
	hintWait    = "a daemon tries again by itself, a command is to be repeated; if it lasts, look at the storage and at the network between"
	hintRoom    = "make room in the storage, or raise its quota"
	hintPart    = "the storage has lost a part of an upload: push or sync the image again"
	hintClock   = "set the clock of this host (timedatectl): S3 refuses requests of another time"
)

// requestError is a failed request to the storage.
type requestError struct {
	What string // was tried
	Err  error

	hint        string
	unavailable bool // the storage may answer later
}

func (e *requestError) Error() string {
	var answer minio.ErrorResponse
	if errors.As(e.Err, &answer) && answer.Code != "" {
		return fmt.Sprintf("%s: %s: %s", e.What, answer.Code, answer.Error())
	}
	return e.What + ": " + e.Err.Error()
}

func (e *requestError) Unwrap() error { return e.Err }

// Hint returns the next step.
func (e *requestError) Hint() string { return e.hint }

// Is makes errors.Is(err, blobstore.ErrUnavailable) true while the storage may answer later, and
// errors.Is(err, fs.ErrNotExist) for a missing object.
func (e *requestError) Is(target error) bool {
	return e.unavailable && target == blobstore.ErrUnavailable
}

// explain returns the error of a request.
func explain(what string, err error) error {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		if errors.Is(err, context.Canceled) || errors.Is(err, blobstore.ErrLost) {
			return fmt.Errorf("%s: %w", what, err)
		}
		return &requestError{What: what, Err: err, hint: hintWait, unavailable: retry.Passing(err)}
	}
	e := &requestError{What: what, Err: err, hint: hintAddress}
	switch code := answer.Code; {
	case code == "NoSuchBucket":
		e.Err = fmt.Errorf("the bucket does not exist: %w", err)
		e.unavailable = true
	case code == "NoSuchKey" || code == "NoSuchUpload" || answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	case code == "RequestTimeTooSkewed":
		e.hint, e.unavailable = hintClock, true
	case code == "AccessDenied" || code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" || answer.StatusCode == http.StatusForbidden:
		e.hint, e.unavailable = hintAccess, true
	case code == "XMinioStorageFull" || code == "QuotaExceeded" || answer.StatusCode == http.StatusInsufficientStorage:
		e.hint, e.unavailable = hintRoom, true
	case code == "InvalidPart" || code == "InvalidPartOrder":
		e.hint, e.unavailable = hintPart, true
	case passing(answer):
		e.hint, e.unavailable = hintWait, true
	}
	return e
}

// passing reports whether a failure may pass by itself.
func passing(answer minio.ErrorResponse) bool {
	switch answer.Code {
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "BadDigest", "IncompleteBody":
		return true
	}
	return retry.Status(answer.StatusCode)
}

// tries is the policy of all requests.
func tries() retry.Policy {
	return retry.Policy{Attempts: 5, First: 200 * time.Millisecond, Again: func(err error) (bool, time.Duration) {
		var answer minio.ErrorResponse
		if errors.As(err, &answer) {
			return passing(answer), 0
		}
		return retry.Passing(err) && !errors.Is(err, blobstore.ErrLost), 0
	}}
}

const (
	shortTime = 30 * time.Second // of a request without content
	longTime  = 10 * time.Minute // of a request with a part, or of a copy
)

// do makes a request, again while its failure may pass.
func (s *Storage) do(ctx context.Context, what string, request func(context.Context) error) error {
	return s.within(ctx, what, shortTime, nil, request)
}

// doLong is do for a request that takes long.
func (s *Storage) doLong(ctx context.Context, what string, request func(context.Context) error) error {
	return s.within(ctx, what, longTime, nil, request)
}

// doWork is doLong for a request that has the storage work before it answers.
func (s *Storage) doWork(ctx context.Context, what string, request func(context.Context) error) error {
	return s.within(ctx, what, longTime, s.answers, request)
}

// doWhile makes a request whose answer the caller goes on to read. end ends ctx.
func (s *Storage) doWhile(ctx context.Context, end context.CancelCauseFunc, what string, request func(context.Context) error) error {
	err := s.listen(ctx, end, nil, func(ctx context.Context) error {
		return tries().Do(ctx, func() error { return request(ctx) })
	})
	if err != nil {
		return explain(what, err)
	}
	return nil
}

// within makes a request, and bounds each attempt by limit and the silence of all by s.silence.
func (s *Storage) within(ctx context.Context, what string, limit time.Duration, lives func(context.Context) bool, request func(context.Context) error) error {
	policy := tries()
	if blobstore.IsOnce(ctx) {
		policy.Attempts = 1
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	err := s.listen(ctx, end, lives, func(ctx context.Context) error {
		return policy.Do(ctx, func() error {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return request(ctx)
		})
	})
	if err != nil {
		return explain(what, err)
	}
	return nil
}
