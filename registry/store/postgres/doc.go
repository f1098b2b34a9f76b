// Package postgres is the database in PostgreSQL: one writer and several readers of one process.
//
// Open takes the database for this process, migrates it and returns a DB. What this package knows of
// tables is what it is told to watch: rows and their meaning are the store's.
//
//   - The SQL of the store is one text for every engine. Parameters and words of SQLite are
//     translated at one place (translate.go); functions of SQLite are functions of the schema
//     (functions.sql).
//
//   - Writes go one at a time through one connection, in serializable transactions that concurrent
//     writes share, as with SQLite: what the process remembers of blobs and runs is decided in that
//     order. A transaction that conflicts with one of another process runs again.
//
//   - The writer's connection holds an advisory lock, without which no process writes. A second
//     daemon is refused. A daemon whose connection was lost, and whose database another one had
//     meanwhile, writes no more. It connects again at once, also when nothing is written (keep.go).
//
//   - With Options.Several the lock is a shared one, and writes of all daemons go one at a time: each
//     transaction begins with LOCK TABLE, which takes no snapshot. A migration, and a process that
//     needs the database alone, wait for no daemon and are refused while there is one.
//
//   - Each of several daemons has a row with a lease (members.go). A write begins with a look at the
//     row, in the same round trip: a daemon that the others count as dead writes nothing more as the
//     one that it was. What it does outside of the database it does while Holds, within a bound.
//
//   - A write that returned nil is on disk: synchronous_commit and fsync are checked.
//
//   - Triggers name the rows that a transaction changes, by notices to the connection that changes
//     them. After a connection was lost, all rows count as changed.
//
//   - Every error passes through this package, below database/sql: a lost connection, too many of
//     them and a read-only server become a *database.UnavailableError, a full disk a
//     *diskspace.FullError.
//
//   - Each connection is made to the primary of the hosts in the address, and to none that another one has
//     superseded (primary.go). A commit with a warning, such as one whose wait for a standby was cancelled, is
//     not acknowledged.
//
//   - Several daemons are told of each other's changes by NOTIFY (tell.go), in the round trip of the
//     commit: what waits for a change wakes soon. Nothing relies on it: each daemon looks now and then
//     whether a notification was lost. A NOTIFY takes a lock of the whole server at each commit, where
//     writes of all daemons go one at a time anyway; one daemon sends none.
//
// Refused: pgxpool, whose pool database/sql has already; and READ COMMITTED, which would make each
// write of the store think of others.
package postgres
