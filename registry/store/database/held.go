package database

import "fmt"

// HeldError reports that another daemon of the store has what one has at a time.
type HeldError struct {
	Name   string // what it is
	Holder string // the host of the daemon; "" if that is not known
}

func (e *HeldError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("another daemon of this store has the %s", e.Name)
	}
	return fmt.Sprintf("the daemon on host %s has the %s", e.Holder, e.Name)
}
