-- What one daemon does on request and the others show: how far it is while it is under way, and its last result. See
-- registry/store/sharedrows. Times are those of the database.
CREATE TABLE work (
  name TEXT NOT NULL PRIMARY KEY,
  host TEXT NOT NULL,
  run TEXT NOT NULL, -- the last one
  progress TEXT, -- JSON; NULL: it is not under way
  told BIGINT NOT NULL,
  stop BIGINT NOT NULL DEFAULT 0, -- 1: an administrator has asked for the end of the run
  result TEXT, -- JSON
  ended BIGINT NOT NULL DEFAULT 0 -- when the result was written
);
