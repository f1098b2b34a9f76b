// Package store keeps what the registry holds: rows in SQLite, blobs in files, and the two true together.
//
// Open gives the one Store of a database; an exclusive lock refuses a second. Everything else is a
// method, takes a context that stops it, and is one transaction. What holds at every moment, also after
// kill -9 and a power cut:
//
//   - A blob's row is written after its file is whole, synced and in place; that of a small blob (64 KiB) with its
//     bytes, which stay in the database until the file is synced together with others, and from which Open writes it
//     again after a crash. A crash leaves a file that no row names, which collection takes away, and never a
//     row whose bytes are missing.
//   - A method that returned nil has its effect on disk (synchronous=FULL, and fsync of files and of the
//     directories that name them).
//   - A manifest's bytes are kept as they were pushed and hash to its digest.
//   - A read takes a connection of its own and never waits for a write.
//   - Collection removes nothing that a manifest, a run, an upload under way or a recent check relies on.
//
// Writes go one at a time through one connection, each in an immediate transaction. Several writers were
// tried and refused: they do not get faster, and they fail with SQLITE_BUSY. What pushers write at the same
// time shares a transaction, each under a savepoint, so that they wait for the disk once.
//
// What keeps it going for years: Maintain, on a schedule, bounds the WAL and feeds the planner; EvictPulled
// holds what pull-through brought under a quota; Options.MinFree stops pushes before the disk is full, and a
// small reserved file lets deletes and collection work when somebody else has filled it; a database is
// copied before it is migrated.
//
// Refused as well: blobs in the database for good (readers, backups and an adopted storage would have two places
// to look at, and the WAL would be as large as the largest layer); and reference counts in a column (a count that is
// wrong once stays wrong; here references are rows, and collection asks them).
package store
