-- Appliances that follow this one, and how far each has got.
CREATE TABLE followers (
  id      TEXT    NOT NULL PRIMARY KEY, -- of the appliance
  address TEXT    NOT NULL, -- host:port
  ca      TEXT    NOT NULL, -- PEM, '' for the CAs of the system
  token   TEXT    NOT NULL, -- with which this appliance asks it
  session TEXT    NOT NULL, -- part of its positions; '' when it has to list all again
  users   BIGINT NOT NULL, -- 1: it gets the accounts
  since   BIGINT NOT NULL, -- the follower has saved the changes up to this one
  seen    BIGINT NOT NULL,
  started BIGINT NOT NULL
);

-- The number of the last change, which is never given twice.
CREATE TABLE feed (
  one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
  head BIGINT NOT NULL
);
INSERT INTO feed (one, head) VALUES (1, 0);

-- What has changed, each thing once, at its last change. Triggers write it while there are followers.
CREATE TABLE changes (
  seq        BIGINT NOT NULL PRIMARY KEY,
  kind       TEXT    NOT NULL, -- manifest, blob, tag, user, cluster or note
  repository TEXT    NOT NULL, -- '' for what belongs to none
  name       TEXT    NOT NULL,
  UNIQUE (kind, repository, name)
);

CREATE FUNCTION record_change(what text, repository_id bigint, of_name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  in_repository text := coalesce((SELECT r.name FROM repositories r WHERE r.id = repository_id), '');
BEGIN
  UPDATE feed SET head = head + 1;
  DELETE FROM changes c WHERE c.kind = what AND c.name = of_name AND c.repository = in_repository;
  INSERT INTO changes (seq, kind, repository, name) SELECT head, what, in_repository, of_name FROM feed;
END $$;

CREATE FUNCTION follow_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changed record;
BEGIN
  IF NOT EXISTS (SELECT 1 FROM followers) THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
  IF TG_TABLE_NAME = 'tags' THEN
    PERFORM record_change('tag', changed.repository, changed.name);
  ELSIF TG_TABLE_NAME IN ('repository_manifests', 'origins') THEN -- the origins of a manifest are part of its state
    PERFORM record_change('manifest', changed.repository, changed.digest);
  ELSIF TG_TABLE_NAME = 'repository_blobs' THEN
    PERFORM record_change('blob', changed.repository, changed.digest);
  ELSIF TG_TABLE_NAME = 'quarantine' THEN
    PERFORM record_change('blob', l.repository, l.digest) FROM repository_blobs l WHERE l.digest = changed.digest;
  ELSIF TG_TABLE_NAME = 'users' THEN
    PERFORM record_change('user', 0, changed.name);
  ELSIF TG_TABLE_NAME = 'clusters' THEN
    PERFORM record_change('cluster', 0, changed.id);
  ELSIF TG_TABLE_NAME = 'meta' THEN
    PERFORM record_change('note', 0, changed.name);
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER tag_came AFTER INSERT OR DELETE OR UPDATE OF digest ON tags FOR EACH ROW EXECUTE FUNCTION follow_change();
CREATE TRIGGER manifest_came AFTER INSERT OR DELETE OR UPDATE OF pulled, media_type ON repository_manifests FOR EACH ROW EXECUTE FUNCTION follow_change();
CREATE TRIGGER origin_came AFTER INSERT OR DELETE OR UPDATE ON origins FOR EACH ROW EXECUTE FUNCTION follow_change();

-- A follower fetches the blobs of a manifest together with it. Those that come later are named: what pull-through
-- brings, and what was damaged.
CREATE TRIGGER blob_pulled AFTER INSERT OR UPDATE OF pulled ON repository_blobs FOR EACH ROW WHEN (NEW.pulled = 1) EXECUTE FUNCTION follow_change();
CREATE TRIGGER blob_mended AFTER DELETE ON quarantine FOR EACH ROW EXECUTE FUNCTION follow_change();

CREATE TRIGGER user_came AFTER INSERT OR DELETE OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION follow_change();

-- What a cluster needs has thousands of rows, which change together: the store updates its row after them.
CREATE TRIGGER cluster_came AFTER INSERT OR DELETE OR UPDATE ON clusters FOR EACH ROW EXECUTE FUNCTION follow_change();

-- Of the notes, what image sets want belongs to the content.
CREATE TRIGGER wants_came AFTER INSERT OR UPDATE OF value ON meta FOR EACH ROW WHEN (NEW.name >= 'wants ' AND NEW.name < 'wants!') EXECUTE FUNCTION follow_change();
CREATE TRIGGER wants_went AFTER DELETE ON meta FOR EACH ROW WHEN (OLD.name >= 'wants ' AND OLD.name < 'wants!') EXECUTE FUNCTION follow_change();

-- How far this appliance has read the feed of the one that it follows: one row, none without one.
CREATE TABLE following (
  one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
  position TEXT    NOT NULL, -- as the first gave it: followed has what came before
  whole    BIGINT NOT NULL, -- 1: followed will name all that the first has
  run      TEXT    NOT NULL, -- keeps the content that followed needs; '' for none
  equal    BIGINT NOT NULL  -- when this appliance was last equal to the first
);

-- What came by the feed and does not show yet.
CREATE TABLE followed (
  kind       TEXT    NOT NULL,
  repository TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  state      TEXT    NOT NULL, -- JSON of the feed, '' for what is gone
  lacks      BIGINT NOT NULL, -- 1: its content is not here yet
  PRIMARY KEY (kind, repository, name)
);
CREATE INDEX followed_lacking ON followed (kind, repository, name) WHERE lacks = 1;
