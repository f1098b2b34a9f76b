-- The same bytes may be declared as two media types when they name none themselves. What a body names is that of the
-- manifest, '' for nothing; what was declared instead is that of the link, so that no repository decides for another.
ALTER TABLE repository_manifests ADD COLUMN media_type TEXT NOT NULL DEFAULT '';
ALTER TABLE run_manifests ADD COLUMN media_type TEXT NOT NULL DEFAULT '';
