-- Conversions that yield NULL where the value does not fit, for what no expression can test without raising.
-- They live in the session (pg_temp), not in the database.
CREATE OR REPLACE FUNCTION pg_temp.utf8(bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from($1, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character OR data_exception THEN
    RETURN NULL;
END $$;

-- A time with a zone keeps it; one without is read in the zone given.
CREATE OR REPLACE FUNCTION pg_temp.time_value(text, zone text) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF $1 ~* '(z|[+-]\d\d(:?\d\d){0,2})(\s+bc)?\s*$' AND $1 ~ ':' THEN
        RETURN $1::timestamptz;
    END IF;
    RETURN $1::timestamp AT TIME ZONE zone;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION pg_temp.json_value(text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN $1::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
    RETURN NULL;
END $$;

