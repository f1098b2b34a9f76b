-- What the store uses of SQLite's functions. These names, with these types, are not PostgreSQL's.

CREATE OR REPLACE FUNCTION max(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT greatest($1, $2)';
CREATE OR REPLACE FUNCTION min(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT least($1, $2)';
CREATE OR REPLACE FUNCTION instr(text, text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT strpos($1, $2)';
CREATE OR REPLACE FUNCTION json_array(text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT json_build_array($1)::text';
CREATE OR REPLACE FUNCTION json_array(bigint, text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT json_build_array($1, $2)::text';

-- The elements of a JSON array in order. PostgreSQL's texts have no NUL.
CREATE OR REPLACE FUNCTION json_texts(doc text) RETURNS TABLE (key bigint, value text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT e.ordinality, e.value FROM json_array_elements_text(replace(doc, '\u0000', '\ufffd')::json) WITH ORDINALITY e $$;
CREATE OR REPLACE FUNCTION json_rows(doc text) RETURNS TABLE (key bigint, value json) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT e.ordinality, e.value FROM json_array_elements(replace(doc, '\u0000', '\ufffd')::json) WITH ORDINALITY e $$;

-- Whether a text matches a pattern with *, ? and [...].
CREATE OR REPLACE FUNCTION glob(pattern text, value text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT value ~ ('^(?:' || replace(replace(regexp_replace(pattern, '([.+(){}|\\$])', '\\\1', 'g'), '*', '.*'), '?', '.') || ')$') $$;
CREATE OR REPLACE FUNCTION json_rows(doc text, path text) RETURNS TABLE (key bigint, value json) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT e.ordinality, e.value FROM json_array_elements(coalesce(replace(doc, '\u0000', '\ufffd')::json -> substr(path, 3), '[]'::json)) WITH ORDINALITY e $$;

-- A field of a JSON object that is a text.
CREATE OR REPLACE FUNCTION json_field(doc text, field text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT replace(doc, '\u0000', '\ufffd')::json ->> field $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_operator WHERE oprname = '->>' AND oprleft = 'text'::regtype AND oprright = 'text'::regtype AND oprnamespace = current_schema()::regnamespace) THEN
    CREATE OPERATOR ->> (FUNCTION = json_field, LEFTARG = text, RIGHTARG = text);
  END IF;
END $$;
