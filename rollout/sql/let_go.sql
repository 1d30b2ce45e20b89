-- What a table that is put on the shelf lets go of: (order, statement), {table} and :table being its quoted name.
-- Constraints; identities, defaults and generated values; types of ours and of others, whose values become text; its
-- own sequences.
SELECT 1, 'ALTER TABLE {table} DROP CONSTRAINT ' || quote_ident(conname) FROM pg_constraint
WHERE conrelid = CAST(:table AS regclass) AND contype IN ('p', 'u', 'f', 'c', 'x')
UNION ALL
SELECT 2, 'ALTER TABLE {table} ALTER COLUMN ' || quote_ident(attname)
       || CASE WHEN attidentity <> '' THEN ' DROP IDENTITY' WHEN attgenerated <> '' THEN ' DROP EXPRESSION'
               ELSE ' DROP DEFAULT' END FROM pg_attribute
WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped AND (atthasdef OR attidentity <> '')
UNION ALL
SELECT 3, 'ALTER TABLE {table} ALTER COLUMN ' || quote_ident(attname) || ' TYPE text' FROM pg_attribute
JOIN pg_type t ON t.oid = atttypid
WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped
  AND t.typnamespace <> 'pg_catalog'::regnamespace
UNION ALL
SELECT 4, 'DROP SEQUENCE ' || objid::regclass FROM pg_depend
WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = CAST(:table AS regclass)
  AND refobjsubid > 0 AND deptype = 'a' AND (SELECT relkind FROM pg_class WHERE oid = objid) = 'S'
ORDER BY 1, 2
