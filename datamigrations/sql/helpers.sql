-- Conversions that yield NULL where the value does not fit, for what no expression can test without raising.
-- They live in the session (pg_temp), not in the database.
CREATE OR REPLACE FUNCTION pg_temp.utf8(bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from($1, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character OR data_exception THEN
    RETURN NULL;
END $$;

-- A time with a zone keeps it; one without is read in the zone given. A date in digits comes first: what else the server
-- reads (now, tomorrow) is no time of a row. Of zones in letters those are known that have one meaning: an abbreviation
-- has several, UTC+8 is read the other way round, and ::timestamp drops them all. A name with a slash and without digits
-- is one of pg_timezone_names, or refused.
CREATE OR REPLACE FUNCTION pg_temp.time_value(text, zone text) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    parts text[];
BEGIN
    -- The usual forms, an order of magnitude faster without captures.
    IF $1 ~ '^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?$' THEN
        RETURN $1::timestamp AT TIME ZONE zone;
    ELSIF $1 ~ '^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::?\d\d)?)$' THEN
        RETURN $1::timestamptz;
    END IF;
    parts := regexp_match(
        $1,
        '^\s*(?:\d{1,6}[-/.]\d{1,2}[-/.]\d{1,6}|\d{8}|\d{14})'
        '(?:(?:\s*t|\s+)\s*(\d{1,2}(?::\d{1,2}){0,2}(?:\.\d*)?|\d{4}|\d{6}(?:\.\d*)?)(?:\s*[ap]m)?)?'
        '\s*(z|utc|gmt|[a-z_]+(?:/[a-z_-]+)+|[+-]\d{1,2}(?::?\d\d){0,2})?'
        '(?:\s+(?:bc|ad))?\s*$',
        'i'
    );
    IF lower(btrim($1)) IN ('infinity', '-infinity') THEN
        RETURN $1::timestamptz;
    ELSIF parts IS NULL OR parts[1] IS NULL AND parts[2] ~ '^[+-]' THEN
        RETURN NULL;
    ELSIF parts[2] IS NOT NULL THEN
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

