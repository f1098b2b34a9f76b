package pace

import (
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	var m Meter
	m.Took(20*time.Second, Least-1)
	if got := m.Left(Patience); got != 40*time.Second {
		t.Errorf("after a byte too few: %v left", got)
	}
	m.Took(50*time.Second, 0)
	if got := m.Left(Patience); got != 0 {
		t.Errorf("after more than its patience: %v left", got)
	}
	m.Took(0, 1)
	if got := m.Left(Patience); got != Patience {
		t.Errorf("after progress: %v left", got)
	}
}
