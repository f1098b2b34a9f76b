-- The checks of the positions that a follower may have, as a JSON array of texts: that of the one that it has asked
-- with last, and those that it was given since. A database that goes back to an earlier state lacks the later ones.
ALTER TABLE followers ADD COLUMN checks TEXT NOT NULL DEFAULT '';
