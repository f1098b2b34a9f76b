// Package sqlite is the database: one file, its write-ahead log (WAL), one writer
// and several readers.
//
// Open migrates the file and returns a DB. Share and Write are the only ways to write; a read uses
// Reader and never waits for a write. What this package knows of tables are their statistics: rows
// and their meaning are the store's.
//
//   - Writes go one at a time through one connection. Those that come at the same time share a
//     transaction, each under a savepoint, so that they wait for the disk once. Users take turns.
//   - A write that returned nil is on disk (synchronous=FULL).
//   - Every error of SQLite passes through this package, below database/sql: damage becomes a
//     *database.CorruptError and is remembered, a full disk a *diskspace.FullError, and after a
//     failed sync nothing is written before a checkpoint.
//   - Maintain, on a schedule, bounds the WAL, feeds the planner and gives free pages back to the
//     file system. A small reserved file lets deletes work when the disk is full. A database is
//     copied before it is migrated.
//
// Refused: several writers, which are not faster and fail with SQLITE_BUSY; synchronous=NORMAL,
// with which an acknowledged push can vanish in a power cut; auto_vacuum=FULL, which moves pages
// in the transaction of each delete; and prepared statements of database/sql, each of which
// needs a name and is prepared before its transaction: every connection keeps the statements
// that it has parsed instead.
package sqlite
