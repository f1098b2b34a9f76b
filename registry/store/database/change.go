package database

// Op is what a transaction does to a row.
type Op int

// The operations.
const (
	Insert Op = iota + 1
	Update
	Delete
)

// Change is a row that a transaction changes.
type Change struct {
	Table string // "": any row of any table may have changed
	Op    Op
	Columns
}

// Columns are the first columns of a row that changes: an integer is an int64, a text a string.
type Columns interface {
	// Old sets columns to those of the row before an update or a deletion.
	Old(columns ...any) error
	// New sets columns to those of the row after an insertion or an update.
	New(columns ...any) error
}
