// Package store has the content of the registry: rows in the database (store/sqlite), blobs in
// files (store/blobfile), and the transactions that keep the two consistent.
//
// Open returns the one Store of a database; an exclusive lock refuses a second. Every other method
// takes a context that stops it, and is one transaction. At every moment, also after kill -9 and a
// power cut:
//
//   - A blob's row is written after its file is whole, synced and in place; that of a small blob
//     (64 KiB) with its bytes, which stay in the database until the file is synced together with
//     others, and from which Open writes it again after a crash. A crash leaves a file without a
//     row, which collection removes, and never a row without its bytes.
//   - A method that returned nil has its effect on disk.
//   - A manifest's bytes are stored as they were pushed and hash to its digest.
//   - A read never waits for a write.
//   - Collection removes nothing that a manifest, a run, an upload or a recent check relies on.
//
// For years of operation: Maintain, on a schedule; EvictPulled, which keeps pulled-through content
// within a quota; Options.MinFree, which stops pushes before the disk is full.
//
// Refused: blobs in the database for good (readers, backups and an adopted storage would have two
// places to look at, and the WAL would be as large as the largest layer); and reference counts in a
// column (a count that is wrong once stays wrong; here references are rows, which collection
// queries).
package store
