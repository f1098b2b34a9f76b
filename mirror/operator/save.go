package operator

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// saved is the beginning of a saved index. Its number changes with what Scan keeps, and with how
// it is written.
const saved = "appliance catalog index 2\n"

// maxSaved bounds a saved index. That of 10,000 bundles has 2 MiB.
const maxSaved = 512 << 20

// WriteTo writes the index in a form that ReadIndex reads.
func (x *Index) WriteTo(w io.Writer) (int64, error) {
	c := &coder{out: bytes.NewBufferString(saved), place: map[string]int{}}
	c.index(x)
	sum := sha256.Sum256(c.out.Bytes())
	c.out.Write(sum[:])
	n, err := w.Write(c.out.Bytes())
	return int64(n), err
}

// ReadIndex reads what WriteTo wrote. An error, such as that of an index which is damaged or of
// another version, means that the catalog is to be scanned again.
func ReadIndex(r io.Reader) (*Index, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSaved+1))
	if err != nil {
		return nil, fmt.Errorf("read the saved index of the catalog: %w", err)
	}
	body := text[:max(0, len(text)-sha256.Size)]
	sum := sha256.Sum256(body)
	if !bytes.HasPrefix(body, []byte(saved)) || !bytes.Equal(sum[:], text[len(body):]) {
		return nil, damaged()
	}
	c := &coder{in: body[len(saved):]}
	x := &Index{}
	c.index(x)
	if c.broken || len(c.in) > 0 || !x.sound() {
		return nil, damaged()
	}
	return x, nil
}

func damaged() error {
	return hint.New(errors.New("the saved index of the catalog is damaged, or of another version"), "the catalog is to be read again")
}

// sound reports whether what the index refers to is in it.
func (x *Index) sound() bool {
	ok := true
	at := func(p place) { ok = ok && p.file < len(x.files) }
	for _, p := range x.loose {
		at(p)
	}
	for i, p := range x.packages {
		ok = ok && (i == 0 || x.packages[i-1].name < p.name)
		for _, b := range p.blobs {
			at(b.at)
		}
		for _, c := range p.channels {
			at(c.at)
		}
		for _, b := range p.bundles {
			at(b.at)
			ok = ok && b.props < len(x.props)
		}
		for _, d := range p.deprecations {
			at(d.at)
		}
		for _, o := range p.others {
			at(o)
		}
	}
	return ok
}

// coder writes an index, or reads one: each method does both, so that the two cannot differ. A
// string is written once, and its number after that.
type coder struct {
	out   *bytes.Buffer // nil when reading
	place map[string]int

	in     []byte
	texts  []string
	broken bool
}

func (c *coder) index(x *Index) {
	list(c, &x.files, c.text)
	list(c, &x.packages, func(p **pack) {
		if *p == nil {
			*p = &pack{}
		}
		c.pack(*p)
	})
	list(c, &x.loose, c.at)
	list(c, &x.props, func(set *[]property) {
		list(c, set, func(p *property) { c.text(&p.kind); c.text(&p.value) })
	})
}

func (c *coder) pack(p *pack) {
	c.text(&p.name)
	list(c, &p.blobs, func(b *packageBlob) { c.at(&b.at); c.text(&b.defaultChannel) })
	list(c, &p.channels, func(ch *channel) {
		c.at(&ch.at)
		c.text(&ch.name)
		list(c, &ch.entries, func(e *entry) {
			c.text(&e.Name)
			c.text(&e.Replaces)
			list(c, &e.Skips, c.text)
			c.text(&e.SkipRange)
		})
	})
	list(c, &p.bundles, func(b *bundle) { c.at(&b.at); c.text(&b.name); c.text(&b.version); c.int(&b.props) })
	list(c, &p.deprecations, func(d *deprecations) {
		c.at(&d.at)
		list(c, &d.entries, func(r *reference) { c.text(&r.Schema); c.text(&r.Name) })
	})
	list(c, &p.others, c.at)
}

func (c *coder) at(p *place) {
	kind, offset := 0, int(p.offset)
	if p.yaml {
		kind = 1
	}
	c.int(&p.file)
	c.int(&offset)
	c.int(&p.length)
	c.int(&kind)
	p.offset, p.yaml = int64(offset), kind == 1
	if p.length > max(maxJSON, maxYAML) {
		c.broken = true
	}
}

// list codes a list: its length, then each of it. A list takes a byte for each at least, which
// bounds what a length can claim.
func list[T any](c *coder, of *[]T, each func(*T)) {
	n := len(*of)
	c.int(&n)
	if c.out == nil {
		if n > len(c.in) {
			c.broken = true
		}
		if c.broken || n == 0 {
			return
		}
		*of = make([]T, n)
	}
	for i := range *of {
		if c.broken {
			return
		}
		each(&(*of)[i])
	}
}

func (c *coder) int(n *int) {
	if c.out != nil {
		c.out.Write(binary.AppendUvarint(nil, uint64(*n)))
		return
	}
	v, size := binary.Uvarint(c.in)
	if size <= 0 || v > 1<<62 {
		c.broken = true
		*n = 0
		return
	}
	c.in = c.in[size:]
	*n = int(v)
}

// text codes a string: its number, or, the first time, the next free number, its length and itself.
func (c *coder) text(s *string) {
	if c.out != nil {
		at, ok := c.place[*s]
		if !ok {
			at = len(c.place)
			c.place[*s] = at
		}
		c.int(&at)
		if !ok {
			n := len(*s)
			c.int(&n)
			c.out.WriteString(*s)
		}
		return
	}
	var at, n int
	c.int(&at)
	if at < len(c.texts) {
		*s = c.texts[at]
		return
	}
	c.int(&n)
	if c.broken || at != len(c.texts) || n > len(c.in) {
		c.broken = true
		return
	}
	*s = string(c.in[:n])
	c.in = c.in[n:]
	c.texts = append(c.texts, *s)
}
