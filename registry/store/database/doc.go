// Package database is what the engines of the store's database have in common: the interface that
// the store uses, what it is told of rows that change, reading of rows, the turns of those that
// write, and the errors.
//
// store/sqlite is the engine. The SQL of the store is one text for every engine.
//
// Refused: a layer that builds statements, which hides their plans; and an engine that runs several
// writes of a process at a time, since what the process remembers of blobs and runs is decided in
// the order of its writes.
package database
