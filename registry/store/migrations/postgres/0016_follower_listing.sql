-- 1 while a follower reads a list of all and does not show it yet. The changes after its number are those that it does not
-- show: one that has them and cannot show them is not equal.
ALTER TABLE followers ADD COLUMN listing BIGINT NOT NULL DEFAULT 0;
