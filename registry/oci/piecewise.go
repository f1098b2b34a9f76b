package oci

import (
	"io"
	"net/http"
	"time"
)

const (
	// smallPiece is the first size of a piece.
	smallPiece = 32 << 10
	// largePiece is the size at which HTTP/2 is fastest: each Write is a message to the connection's goroutine. Pieces
	// of 32 KiB were measured to cost 15 % of a large blob's throughput.
	largePiece = 256 << 10
	// quickly is the time in which a client must take a piece for the next to be larger. The deadline of an answer
	// moves between pieces, so a slow client gets small ones.
	quickly = 100 * time.Millisecond
)

// piecewise copies an answer in pieces that fit the speed of its client. http.ServeContent uses its ReadFrom.
type piecewise struct{ http.ResponseWriter }

// Unwrap is for http.ResponseController.
func (w piecewise) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ReadFrom sends all of r.
func (w piecewise) ReadFrom(r io.Reader) (n int64, err error) {
	buffer := make([]byte, smallPiece)
	for piece := buffer; ; {
		m, readErr := r.Read(piece)
		began := time.Now()
		if m > 0 {
			written, err := w.Write(piece[:m])
			n += int64(written)
			if err != nil {
				return n, err
			}
		}
		switch {
		case readErr == io.EOF:
			return n, nil
		case readErr != nil:
			return n, readErr
		case time.Since(began) >= quickly:
			piece = buffer[:smallPiece]
			continue
		case m == len(buffer) && m < largePiece:
			buffer = make([]byte, 2*m)
		}
		piece = buffer
	}
}
