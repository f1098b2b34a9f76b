-- What a deletion of much has still to look at: it comes in parts, and one that is interrupted is gone on with.
CREATE TABLE removals (
  id         TEXT    NOT NULL, -- of the deletion
  digest     TEXT    NOT NULL,
  repository BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
  whole      BIGINT NOT NULL, -- 1: with what belongs to it
  belongs_to TEXT    NOT NULL, -- the manifest that it goes with; '' when it goes if nothing holds it
  PRIMARY KEY (id, digest)
);
