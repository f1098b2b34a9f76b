package operator

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// The limits of one value. The largest bundles of public catalogs have 5 MiB; YAML takes many
// times its size to read.
const (
	maxJSON = 64 << 20
	maxYAML = 16 << 20
)

// splitter returns the values of one file of a catalog, one after another: JSON values, or YAML
// documents. The bytes of a value are valid until the next call.
type splitter struct {
	r     *bufio.Reader
	at    int64 // where r is in the file
	yaml  bool
	begun bool
	buf   []byte

	mostJSON, mostYAML int
}

func newSplitter(r io.Reader) *splitter {
	return &splitter{r: bufio.NewReaderSize(r, 1<<18), mostJSON: maxJSON, mostYAML: maxYAML}
}

// value is one value of a file: its bytes as they stand there, and the same in JSON.
type value struct {
	offset int64
	raw    []byte
	json   []byte
}

// next returns the next value, or io.EOF.
func (s *splitter) next() (value, error) {
	if !s.begun {
		s.skipMark()
		s.begun, s.yaml = true, !s.looksLikeJSON()
	}
	for {
		if !s.yaml {
			first, err := s.skip()
			if err != nil {
				return value{}, err
			}
			s.yaml = first == '-' // JSON values with the separators of YAML between them
		}
		if !s.yaml {
			return s.nextJSON()
		}
		if _, err := s.r.Peek(1); err != nil {
			return value{}, err
		}
		v, err := s.nextYAML()
		if err != nil || !bytes.Equal(v.json, []byte("null")) {
			return v, err
		}
	}
}

// skipMark skips the byte order mark that editors of Windows put before UTF-8.
func (s *splitter) skipMark() {
	const mark = "\uFEFF"
	if head, _ := s.r.Peek(len(mark)); string(head) == mark {
		_, _ = s.r.Discard(len(mark))
		s.at += int64(len(mark))
	}
}

// looksLikeJSON reports whether the first byte that is not white space begins a JSON value.
func (s *splitter) looksLikeJSON() bool {
	for n := 1; n <= s.r.Size(); n++ {
		head, _ := s.r.Peek(n)
		if len(head) < n {
			return true // white space only, which has no values
		}
		if c := head[n-1]; !isSpace(c) {
			return c == '{' || c == '['
		}
	}
	return false
}

// skip consumes white space and returns the byte after it.
func (s *splitter) skip() (byte, error) {
	for {
		c, err := s.r.ReadByte()
		if err != nil {
			return 0, err
		}
		if !isSpace(c) {
			return c, s.r.UnreadByte()
		}
		s.at++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// nextJSON reads to the end of one value by its brackets; whether it is JSON, it checks after.
func (s *splitter) nextJSON() (value, error) {
	v := value{offset: s.at}
	s.buf = s.buf[:0]
	depth, inString, escaped := 0, false, false
	for {
		chunk, err := s.r.Peek(max(1, s.r.Buffered()))
		if len(chunk) == 0 {
			return v, s.short(v.offset, err)
		}
		n, ended := 0, false
		for n < len(chunk) && !ended {
			if inString {
				n, inString, escaped = stringEnd(chunk, n, escaped)
				continue
			}
			switch chunk[n] {
			case '"':
				inString = true
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				ended = depth <= 0
			default:
				ended = depth == 0
			}
			n++
		}
		if len(s.buf)+n > s.mostJSON {
			return v, fmt.Errorf("the value at byte %d has more than %d MiB, the most that is read", v.offset, s.mostJSON>>20)
		}
		s.buf = append(s.buf, chunk[:n]...)
		_, _ = s.r.Discard(n)
		s.at += int64(n)
		if ended {
			break
		}
	}
	if err := checkJSON(s.buf); err != nil {
		return v, fmt.Errorf("the value at byte %d is not JSON: %w", v.offset, err)
	}
	v.raw, v.json = s.buf, s.buf
	return v, nil
}

// stringEnd returns the place in chunk after the string in which n is, or the end of chunk.
func stringEnd(chunk []byte, n int, escaped bool) (after int, inString, stillEscaped bool) {
	if escaped {
		n++
	}
	for n < len(chunk) {
		quote := bytes.IndexByte(chunk[n:], '"')
		end := len(chunk)
		if quote >= 0 {
			end = n + quote
		}
		slash := bytes.IndexByte(chunk[n:end], '\\')
		switch {
		case slash >= 0 && n+slash+1 >= len(chunk):
			return len(chunk), true, true
		case slash >= 0:
			n += slash + 2
		case quote >= 0:
			return end + 1, false, false
		default:
			return len(chunk), true, false
		}
	}
	return len(chunk), true, false
}

// nextYAML reads to the line before the next document: in YAML, three dashes at the beginning of
// a line are always that.
func (s *splitter) nextYAML() (value, error) {
	v := value{offset: s.at}
	s.buf = s.buf[:0]
	for atLine := true; ; {
		if atLine && len(s.buf) > 0 {
			head, _ := s.r.Peek(4)
			if bytes.HasPrefix(head, []byte("---")) && (len(head) == 3 || bytes.IndexByte([]byte(" \t\r\n"), head[3]) >= 0) {
				break
			}
		}
		line, err := s.r.ReadSlice('\n')
		atLine = err == nil
		if len(s.buf)+len(line) > s.mostYAML {
			return v, fmt.Errorf("the YAML document at byte %d has more than %d MiB, the most that is read", v.offset, s.mostYAML>>20)
		}
		s.buf = append(s.buf, line...)
		s.at += int64(len(line))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return v, err
		}
	}
	v.raw = s.buf
	json, err := yamlToJSON(s.buf)
	if err != nil {
		return v, fmt.Errorf("the YAML document at byte %d: %w", v.offset, err)
	}
	v.json = json
	return v, nil
}

// yamlToJSON converts one document. A document of comments is null.
func yamlToJSON(document []byte) (converted []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // the library has panicked on malformed documents before
			err = fmt.Errorf("not YAML: %v", r)
		}
	}()
	return yaml.YAMLToJSON(document)
}

func (s *splitter) short(offset int64, err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the value at byte %d has no end: the file is cut off, or is not JSON", offset)
	}
	return err
}
