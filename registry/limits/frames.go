package limits

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const frameHeader = 9

// frame is the header of an HTTP/2 frame.
type frame struct {
	length int
	kind   http2.FrameType
	stream uint32
}

// isWindow reports whether the frame is a WINDOW_UPDATE of the connection.
func (f frame) isWindow() bool { return f.kind == http2.FrameWindowUpdate && f.stream == 0 }

// frames follows the frames in a stream of bytes that comes in pieces.
type frames struct {
	header [frameHeader]byte
	have   int // bytes of the header
	left   int // bytes of the payload that are missing

	dropping bool   // the frame under way is withheld
	update   []byte // its payload
}

func (s *frames) atBoundary() bool { return s.have == 0 && s.left == 0 }

// scan takes the next bytes and calls keep with each header. If out is not nil, kept frames are
// appended to its scratch, and other frames are taken for a WINDOW_UPDATE.
func (s *frames) scan(p []byte, keep func(frame) bool, out *windowed) {
	for len(p) > 0 {
		if s.left > 0 {
			n := min(s.left, len(p))
			s.payload(p[:n], out)
			p = p[n:]
			continue
		}
		n := copy(s.header[s.have:], p)
		p = p[n:]
		if s.have += n; s.have < frameHeader {
			return
		}
		f := s.parse()
		s.have, s.left = 0, f.length
		s.dropping = !keep(f)
		s.update = s.update[:0]
		if out != nil && !s.dropping {
			out.scratch = append(out.scratch, s.header[:]...)
		}
	}
}

func (s *frames) payload(p []byte, out *windowed) {
	s.left -= len(p)
	switch {
	case out == nil:
	case !s.dropping:
		out.scratch = append(out.scratch, p...)
	default:
		s.update = append(s.update, p...)
		if s.left == 0 && len(s.update) == 4 {
			out.returned(int64(binary.BigEndian.Uint32(s.update) &^ (1 << 31)))
		}
	}
}

func (s *frames) parse() frame {
	h := s.header[:]
	return frame{
		length: int(h[0])<<16 | int(h[1])<<8 | int(h[2]), kind: http2.FrameType(h[3]),
		stream: binary.BigEndian.Uint32(h[5:]) &^ (1 << 31),
	}
}

// passes takes the next bytes if no frame in them is to be withheld, and reports whether it did.
// Most writes are such, and need not be copied.
func (s *frames) passes(p []byte) bool {
	if s.have > 0 || s.dropping && s.left > 0 {
		return false
	}
	t := *s
	ok := true
	t.scan(p, func(f frame) bool {
		ok = ok && !f.isWindow()
		return true
	}, nil)
	if !ok || t.have > 0 {
		return false
	}
	s.left, s.dropping = t.left, false
	return true
}
