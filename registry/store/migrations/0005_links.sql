-- The same bytes may be declared as two media types when they name none themselves. What a body names is that of the
-- manifest, '' for nothing; what was declared instead is that of the link, so that no repository decides for another.
ALTER TABLE repository_manifests ADD COLUMN media_type TEXT NOT NULL DEFAULT '';
ALTER TABLE run_manifests ADD COLUMN media_type TEXT NOT NULL DEFAULT '';

CREATE TEMP TABLE nameless AS SELECT digest, media_type FROM manifests
  WHERE CASE WHEN json_valid(CAST(body AS TEXT)) THEN coalesce(json_extract(CAST(body AS TEXT), '$.mediaType'), '') = '' ELSE 0 END;
UPDATE repository_manifests SET media_type = n.media_type FROM nameless n WHERE n.digest = repository_manifests.digest;
UPDATE run_manifests SET media_type = n.media_type FROM nameless n WHERE n.digest = run_manifests.digest;
UPDATE manifests SET media_type = '' WHERE digest IN (SELECT digest FROM nameless);
DROP TABLE nameless;

-- A blob is readable where it has a link, and nowhere else. Until now a manifest did as well, so that the link may be
-- absent where a client deleted the blob. A manifest that pull-through brought gives none: what it names may be another's.
INSERT INTO repository_blobs (repository, digest, linked)
  SELECT DISTINCT rm.repository, f.digest, rm.linked FROM repository_manifests rm
    JOIN manifest_refs f ON f.manifest = rm.digest
    JOIN blobs b ON b.digest = f.digest
    WHERE rm.pulled = 0 AND f.kind <> 'child' AND NOT f.elsewhere
  ON CONFLICT DO NOTHING;
