-- What several daemons share beside the content, see registry/store/sharedrows.

-- The CA and the certificate, encrypted with the key in a file of each host: key is its id.
CREATE TABLE sealed (
  name TEXT NOT NULL PRIMARY KEY,
  key TEXT NOT NULL,
  value BYTEA NOT NULL
);
