package archive

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
)

// An inventory is text: a first line, a line for each digest and for each tag, and a last line with
// the checksum of all before it.
const (
	inventoryTitle = "appliance-inventory 1 "
	inventoryBlob  = "blob "
	inventoryTag   = "tag "
	inventoryEnd   = "end "
)

// maxInventory bounds a file; a registry with a million digests has some 80 MB.
const maxInventory = 1 << 30

// Inventory is what a destination has.
type Inventory struct {
	digests  map[digest.Digest]bool
	created  time.Time
	checksum string
}

// ReadInventory reads a file that InventoryWriter wrote. One that is damaged or cut off is an
// error: an archive would lack what the far side lacks.
func ReadInventory(path string) (*Inventory, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	defer f.Close()
	i, err := parseInventory(io.LimitReader(f, maxInventory))
	if err != nil {
		return nil, hint.New(fmt.Errorf("read the inventory %s: %w", path, err),
			"make it again on the far side, and copy the whole file: appliance inventory > FILE")
	}
	return i, nil
}

func parseInventory(r io.Reader) (*Inventory, error) {
	i := &Inventory{digests: map[digest.Digest]bool{}}
	sum := digest.SHA256.Digester()
	lines := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		raw, err := lines.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("line %d: it ends before its checksum: %w", n, err)
		}
		text := strings.TrimSuffix(string(raw), "\n")
		if end, ok := strings.CutPrefix(text, inventoryEnd); ok {
			if i.checksum = sum.Digest().String(); end != i.checksum || n == 1 {
				return nil, fmt.Errorf("line %d: its checksum is not that of its content, so it is damaged", n)
			}
			if _, err := lines.ReadByte(); err != io.EOF {
				return nil, fmt.Errorf("line %d: something follows its checksum", n+1)
			}
			return i, nil
		}
		sum.Hash().Write(raw)
		if err := i.line(n, text); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
}

func (i *Inventory) line(n int, text string) (err error) {
	if n == 1 {
		at, ok := strings.CutPrefix(text, inventoryTitle)
		if !ok {
			return fmt.Errorf("it does not begin with %q: it is not an inventory, or one of another version", inventoryTitle)
		}
		i.created, err = time.Parse(time.RFC3339, at)
		return err
	}
	if d, ok := strings.CutPrefix(text, inventoryBlob); ok {
		if err := image.CheckDigest(digest.Digest(d)); err != nil {
			return err
		}
		i.digests[digest.Digest(d)] = true
		return nil
	}
	if strings.HasPrefix(text, inventoryTag) { // for people: content decides what is carried
		return nil
	}
	return fmt.Errorf("%s is neither a digest nor a tag", image.Quote(text))
}

// InventoryWriter writes an inventory. It keeps its first error, which Close returns.
type InventoryWriter struct {
	to  *bufio.Writer
	sum digest.Digester
	err error
}

// NewInventoryWriter begins an inventory.
func NewInventoryWriter(to io.Writer, created time.Time) *InventoryWriter {
	w := &InventoryWriter{to: bufio.NewWriter(to), sum: digest.SHA256.Digester()}
	w.line(inventoryTitle + created.UTC().Format(time.RFC3339))
	return w
}

// Blob adds a digest that the destination has.
func (w *InventoryWriter) Blob(d digest.Digest) { w.line(inventoryBlob + d.String()) }

// Tag adds a tag that the destination has.
func (w *InventoryWriter) Tag(repository, tag string, d digest.Digest) {
	w.line(inventoryTag + repository + ":" + tag + " " + d.String())
}

func (w *InventoryWriter) line(text string) {
	if w.err == nil {
		_, w.err = io.WriteString(io.MultiWriter(w.to, w.sum.Hash()), text+"\n")
	}
}

// Close writes the checksum.
func (w *InventoryWriter) Close() error {
	end := inventoryEnd + w.sum.Digest().String() + "\n"
	if w.err == nil {
		_, w.err = w.to.WriteString(end)
	}
	if w.err == nil {
		w.err = w.to.Flush()
	}
	return w.err
}
