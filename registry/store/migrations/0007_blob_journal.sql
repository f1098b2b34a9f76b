-- The bytes of small blobs whose files may not be on disk yet: a power cut takes such a file, and it is written again
-- from here. The ids are given by the store, and never twice while it is open. A blob that is collected leaves its bytes
-- behind, which go with the next ones.
CREATE TABLE blob_journal (
  id     INTEGER PRIMARY KEY,
  digest TEXT NOT NULL,
  body   BLOB NOT NULL
) STRICT;
