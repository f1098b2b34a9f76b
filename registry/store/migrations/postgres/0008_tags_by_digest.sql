-- With this order of columns SQLite's own check, when the link of a manifest goes, looks at the tags of that manifest, and not
-- at all of its repository. The other columns of the index are those of the primary key: repository and name.
DROP INDEX tags_by_manifest;
CREATE INDEX tags_by_digest ON tags (digest);
