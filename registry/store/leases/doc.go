// Package leases is package guard for several daemons with one database and one bucket: what guard
// remembers in one process is rows here, which expire with the lease of a daemon.
//
// Writes go one at a time over all daemons (package postgres), so that what is decided from rows
// within a transaction is decided in one order. Reads see an older state, and objects have no
// transactions. At every moment:
//
//  1. A row of a blob has its object.
//  2. A blob that a client was told of within the grace period keeps its row, and so does one of a
//     push under way.
//  3. An object without a row is removed by one daemon at a time, and not after a put of it was
//     acknowledged.
//  4. What a dead daemon had becomes free, and not while it may still act on it.
//
// The races of daemons A and B, and what decides them:
//
//   - A collects, B answers a HEAD from a state before. B's answer is a write, which reads the row
//     again: it is before the removal, which then spares the blob, or after it, and the blob is gone.
//   - A collects, B mounts or puts a manifest: both are writes.
//   - A has deleted a row and not yet the object, B puts the blob. The removal wrote a row of condemned,
//     undone until the object is certainly gone, in the transaction of the deletion. B waits for it
//     before it places the object, remembers its number, and reads it again in its transaction: another
//     number means that a removal began since, which may have taken the new object: B places it again.
//     So the row stays for a day after the removal.
//   - A dies between row and object. Another daemon finishes, after A's lease, which is far longer than
//     any request that A began while it was sure of its lease. It does not where a row has come since.
//   - A hangs until its lease has ended, and wakes up. Its writes are refused (package postgres), and its
//     requests for objects have ended before (Bound).
//   - A loses the answer of a removal: the request may come to its end later. The row stays undone, and
//     is finished after a lease.
//   - A has an upload session, a request for it comes to B. A session is taken by a row of claims, until
//     the request ends or A's row of daemons is gone. A writes no state of it then, commits nothing and
//     discards nothing. Where A and B both have sent a part of it, the storage refuses to make the blob:
//     each compares the parts with its own.
//   - A commits a run, B changes it or commits it too: the same, and each write of a run looks at it.
//   - A has linked the blobs of a run, B deletes such a link before A shows the run. A trigger writes down
//     the links that are deleted while any run is being committed, and the transaction that shows the run
//     makes them again. It fails where A's claim is gone, since then nothing was written down.
//   - A receives a large blob of a run, B aborts stale runs: Tidy renews the run's last access, and B takes
//     a run for stale later than its row tells.
//
// Refused: an advisory lock for each blob, which a lost connection releases while a request is under
// way; times of several hosts, where a lease depends on them; and registering puts, which would cost
// each push two more writes.
package leases
