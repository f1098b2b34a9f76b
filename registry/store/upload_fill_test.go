package store

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
)

// A body comes in records and ends with its last bytes, or breaks with them; what is
// written is as much as fits.
func TestUpload_fill(t *testing.T) {
	const content = "0123456789"
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		from  io.Reader
		reads []string
		last  error
	}{
		"byte by byte":              {iotest.OneByteReader(strings.NewReader(content)), []string{"0123", "4567", "89"}, io.EOF},
		"its end with its last":     {iotest.DataErrReader(strings.NewReader(content)), []string{"0123", "4567", "89"}, io.EOF},
		"an error with its last":    {iotest.DataErrReader(io.MultiReader(strings.NewReader("01234"), iotest.ErrReader(broken))), []string{"0123", "4"}, broken},
		"as much as there is place": {strings.NewReader("0123"), []string{"0123", ""}, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			buffer := make([]byte, 4)
			for i, want := range test.reads {
				n, err := fill(buffer, test.from)
				if last := i == len(test.reads)-1; string(buffer[:n]) != want || last != (err != nil) || last && !errors.Is(err, test.last) {
					t.Errorf("read %d gives %q, %v, want %q", i, buffer[:n], err, want)
				}
			}
		})
	}
}

func TestUpload_ReadFrom_inRecords(t *testing.T) {
	f := newFixture(t)
	content := bytes.Repeat([]byte("0123456789"), throttle.Buffer/4)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	defer u.Close()
	if n, err := u.ReadFrom(iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(content)))); err != nil || n != int64(len(content)) {
		t.Errorf("%d bytes were read, %v", n, err)
	}
	_, err = u.Commit(f.ctx, digest.FromBytes(content))
	f.must(err)
}
