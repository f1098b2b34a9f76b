-- What was done by users and refused to them, the newest with the highest id. It is bounded by kind, so that many of one kind,
-- such as failed logins, take nothing from the others.
CREATE TABLE audit (
  id      INTEGER PRIMARY KEY,
  kind    TEXT    NOT NULL, -- of package registry/admin/api
  at      INTEGER NOT NULL,
  event   TEXT    NOT NULL,
  user    TEXT    NOT NULL,
  remote  TEXT    NOT NULL, -- address of the connection
  outcome TEXT    NOT NULL,
  details TEXT    NOT NULL  -- JSON object of texts
) STRICT;
CREATE INDEX audit_by_kind ON audit (kind);
