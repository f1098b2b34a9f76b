package olmcheck

import (
	"bytes"
	"context"
	"io/fs"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/mirror/operator"
)

func written(ctx context.Context, s *operator.Selection, files fs.FS) (fstest.MapFS, error) {
	list, err := s.Files(ctx, files)
	if err != nil {
		return nil, err
	}
	out := fstest.MapFS{}
	for _, f := range list {
		var text bytes.Buffer
		if err := f.WriteTo(ctx, files, &text); err != nil {
			return nil, err
		}
		out[f.Name] = &fstest.MapFile{Data: text.Bytes(), Mode: 0o644}
	}
	return out, nil
}
