-- Appliances that follow this one, and how far each has got.
CREATE TABLE followers (
  id      TEXT    NOT NULL PRIMARY KEY, -- of the appliance
  address TEXT    NOT NULL, -- host:port
  ca      TEXT    NOT NULL, -- PEM, '' for the CAs of the system
  token   TEXT    NOT NULL, -- with which this appliance asks it
  session TEXT    NOT NULL, -- part of its positions; '' when it has to list all again
  users   INTEGER NOT NULL, -- 1: it gets the accounts
  since   INTEGER NOT NULL, -- the follower has saved the changes up to this one
  seen    INTEGER NOT NULL,
  started INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The number of the last change, which is never given twice.
CREATE TABLE feed (
  one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
  head INTEGER NOT NULL
) STRICT;
INSERT INTO feed (one, head) VALUES (1, 0);

-- What has changed, each thing once, at its last change. Triggers write it while there are followers.
CREATE TABLE changes (
  seq        INTEGER NOT NULL PRIMARY KEY,
  kind       TEXT    NOT NULL, -- manifest, blob, tag, user, cluster or note
  repository TEXT    NOT NULL, -- '' for what belongs to none
  name       TEXT    NOT NULL,
  UNIQUE (kind, repository, name)
) STRICT;

CREATE VIEW changing (kind, repository, name) AS SELECT '', 0, '' WHERE 0;
CREATE TRIGGER change INSTEAD OF INSERT ON changing
BEGIN
  UPDATE feed SET head = head + 1;
  DELETE FROM changes WHERE kind = NEW.kind AND name = NEW.name
    AND repository = coalesce((SELECT name FROM repositories WHERE id = NEW.repository), '');
  INSERT INTO changes (seq, kind, repository, name)
    SELECT head, NEW.kind, coalesce((SELECT name FROM repositories WHERE id = NEW.repository), ''), NEW.name FROM feed;
END;

CREATE TRIGGER tag_came AFTER INSERT ON tags WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('tag', NEW.repository, NEW.name); END;
CREATE TRIGGER tag_moved AFTER UPDATE OF digest ON tags WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('tag', NEW.repository, NEW.name); END;
CREATE TRIGGER tag_went AFTER DELETE ON tags WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('tag', OLD.repository, OLD.name); END;

CREATE TRIGGER manifest_came AFTER INSERT ON repository_manifests WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('manifest', NEW.repository, NEW.digest); END;
CREATE TRIGGER manifest_changed AFTER UPDATE OF pulled, media_type ON repository_manifests WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('manifest', NEW.repository, NEW.digest); END;
CREATE TRIGGER manifest_went AFTER DELETE ON repository_manifests WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('manifest', OLD.repository, OLD.digest); END;

-- The origins of a manifest are part of its state.
CREATE TRIGGER origin_came AFTER INSERT ON origins WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('manifest', NEW.repository, NEW.digest); END;
CREATE TRIGGER origin_changed AFTER UPDATE ON origins WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('manifest', NEW.repository, NEW.digest); END;
CREATE TRIGGER origin_went AFTER DELETE ON origins WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('manifest', OLD.repository, OLD.digest); END;

-- A follower fetches the blobs of a manifest together with it. Those that come later are named: what pull-through
-- brings, and what was damaged.
CREATE TRIGGER blob_pulled AFTER INSERT ON repository_blobs WHEN NEW.pulled = 1 AND EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('blob', NEW.repository, NEW.digest); END;
CREATE TRIGGER blob_pulled_later AFTER UPDATE OF pulled ON repository_blobs WHEN NEW.pulled = 1 AND EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('blob', NEW.repository, NEW.digest); END;
CREATE TRIGGER blob_mended AFTER DELETE ON quarantine WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing SELECT 'blob', repository, digest FROM repository_blobs WHERE digest = OLD.digest; END;

CREATE TRIGGER user_came AFTER INSERT ON users WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('user', 0, NEW.name); END;
CREATE TRIGGER user_changed AFTER UPDATE ON users WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('user', 0, NEW.name); END;
CREATE TRIGGER user_went AFTER DELETE ON users WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('user', 0, OLD.name); END;

-- What a cluster needs has thousands of rows, which change together: the store updates its row after them.
CREATE TRIGGER cluster_came AFTER INSERT ON clusters WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('cluster', 0, NEW.id); END;
CREATE TRIGGER cluster_changed AFTER UPDATE ON clusters WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('cluster', 0, NEW.id); END;
CREATE TRIGGER cluster_went AFTER DELETE ON clusters WHEN EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('cluster', 0, OLD.id); END;

-- Of the notes, what image sets want belongs to the content.
CREATE TRIGGER wants_came AFTER INSERT ON meta WHEN NEW.name >= 'wants ' AND NEW.name < 'wants!' AND EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('note', 0, NEW.name); END;
CREATE TRIGGER wants_changed AFTER UPDATE OF value ON meta WHEN NEW.name >= 'wants ' AND NEW.name < 'wants!' AND EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('note', 0, NEW.name); END;
CREATE TRIGGER wants_went AFTER DELETE ON meta WHEN OLD.name >= 'wants ' AND OLD.name < 'wants!' AND EXISTS (SELECT 1 FROM followers)
BEGIN INSERT INTO changing VALUES ('note', 0, OLD.name); END;

-- How far this appliance has read the feed of the one that it follows: one row, none without one.
CREATE TABLE following (
  one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
  position TEXT    NOT NULL, -- as the first gave it: followed has what came before
  whole    INTEGER NOT NULL, -- 1: followed will name all that the first has
  run      TEXT    NOT NULL, -- keeps the content that followed needs; '' for none
  equal    INTEGER NOT NULL  -- when this appliance was last equal to the first
) STRICT;

-- What came by the feed and does not show yet.
CREATE TABLE followed (
  kind       TEXT    NOT NULL,
  repository TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  state      TEXT    NOT NULL, -- JSON of the feed, '' for what is gone
  lacks      INTEGER NOT NULL, -- 1: its content is not here yet
  PRIMARY KEY (kind, repository, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX followed_lacking ON followed (kind, repository, name) WHERE lacks = 1;
