package archive

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Verify is Describe that also reads all content, in the order in which the files have it, and adds
// what is damaged to the problems. progress is called with the bytes of content that are read, and
// those that there are.
func Verify(ctx context.Context, progress func(read, all int64), paths ...string) (_ *Description, err error) {
	a, problems, err := open(ctx, paths, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	v := &verification{progress: progress}
	for _, p := range a.parts {
		for _, at := range p.blobs {
			v.all += at.size
		}
	}
	for _, p := range a.parts {
		if err := v.part(ctx, p); err != nil {
			return nil, err
		}
	}
	for name := range a.documents {
		if _, err := a.Read(name); err != nil {
			v.problems = append(v.problems, err)
		}
	}
	return a.description(append(problems, v.problems...)), nil
}

// verification reads the content of archives.
type verification struct {
	progress  func(read, all int64)
	read, all int64
	problems  []error
}

func (v *verification) part(ctx context.Context, p *part) error {
	var digests []digest.Digest
	for d := range p.blobs {
		digests = append(digests, d)
	}
	slices.SortFunc(digests, func(a, b digest.Digest) int {
		one, two := p.blobs[a], p.blobs[b]
		return cmp.Or(cmp.Compare(one.number, two.number), cmp.Compare(one.offset, two.offset))
	})
	for _, d := range digests {
		_, err := io.Copy(v, &reading{ctx: ctx, span: p.blobs[d], digest: d, hash: d.Algorithm().Hash()})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v.problems = append(v.problems, err)
		}
	}
	return nil
}

// Write counts what is read.
func (v *verification) Write(p []byte) (int, error) {
	v.read += int64(len(p))
	v.progress(v.read, v.all)
	return len(p), nil
}
