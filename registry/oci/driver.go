package oci

import (
	"context"
	"io"
	"net/http"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// nullDriver is the storage that distribution insists on having. All content goes through our
// Namespace; whatever reached this driver would be a way around the store, so it refuses everything.
type nullDriver struct{}

type nullFactory struct{}

func (nullFactory) Create(context.Context, map[string]any) (storagedriver.StorageDriver, error) {
	return nullDriver{}, nil
}

var errNull = storagedriver.ErrUnsupportedMethod{DriverName: appName}

func (nullDriver) Name() string                                                 { return appName }
func (nullDriver) GetContent(context.Context, string) ([]byte, error)           { return nil, errNull }
func (nullDriver) PutContent(context.Context, string, []byte) error             { return errNull }
func (nullDriver) List(context.Context, string) ([]string, error)               { return nil, errNull }
func (nullDriver) Move(context.Context, string, string) error                   { return errNull }
func (nullDriver) Delete(context.Context, string) error                         { return errNull }
func (nullDriver) RedirectURL(*http.Request, string) (string, error)            { return "", errNull }
func (nullDriver) Stat(context.Context, string) (storagedriver.FileInfo, error) { return nil, errNull }

func (nullDriver) Reader(context.Context, string, int64) (io.ReadCloser, error) { return nil, errNull }

func (nullDriver) Writer(context.Context, string, bool) (storagedriver.FileWriter, error) {
	return nil, errNull
}

func (nullDriver) Walk(context.Context, string, storagedriver.WalkFn, ...func(*storagedriver.WalkOptions)) error {
	return errNull
}
