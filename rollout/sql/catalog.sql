-- What PostgreSQL's catalogs say of every object outside the system's schemas and our own: one row (key, definition).
-- Run with search_path = public, so that names in definitions are qualified in one way only.
-- Objects that an extension brought are the extension's; left out are columns that change when nothing was changed
-- (relhastriggers when a table becomes a foreign key's target, attnum, oids). /*only*/ may narrow it down to some
-- relations: pg_get_expr() and the like wait for whoever holds a table exclusively.
WITH spaces AS (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl,
           CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END AS prefix
    FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'rollout', 'rollout_shelf')
), extension_members AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), pgcrypto AS (
    -- A database that comes from PostgreSQL 12 still calls pgcrypto's gen_random_uuid(), newer ones their own.
    SELECT quote_ident(n.nspname) || '.gen_random_uuid()' AS call
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_depend e ON e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e'
    JOIN pg_extension x ON x.oid = e.refobjid AND x.extname = 'pgcrypto'
    JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'c' -- else somebody replaced it
    WHERE p.proname = 'gen_random_uuid'
), actions (action, name) AS (
    VALUES ('a', 'noaction'), ('r', 'restrict'), ('c', 'cascade'), ('n', 'setnull'), ('d', 'setdefault')
), relations AS (
    SELECT c.*, s.prefix || CASE WHEN c.relname ~ '^[a-z_][a-z0-9_$]*$' THEN c.relname::text ELSE quote_ident(c.relname) END AS key
    FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
    WHERE NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid)
      AND NOT (s.nspname = 'public' AND c.relname IN ('lawsker_schema_version', 'lawsker_schema_version_pkc'))
      /*only*/
)
SELECT 'schema ' || quote_ident(nspname), jsonb_build_object(
           'owner', pg_get_userbyid(nspowner), 'acl', nspacl::text, 'comment', obj_description(oid, 'pg_namespace'))
FROM spaces
UNION ALL
SELECT CASE WHEN r.relkind IN ('v', 'm') THEN 'view ' ELSE 'table ' END || r.key, jsonb_build_object(
           'kind', r.relkind, 'persistence', r.relpersistence, 'row_security', r.relrowsecurity,
           'force_row_security', r.relforcerowsecurity, 'options', r.reloptions::text,
           'toast_options', (SELECT o.reloptions::text FROM pg_class o WHERE o.oid = r.reltoastrelid),
           'access_method', (SELECT m.amname FROM pg_am m WHERE m.oid = r.relam AND m.amname <> 'heap'),
           'replica_identity', r.relreplident, 'of_type', CASE WHEN r.reloftype <> 0 THEN format_type(r.reloftype, NULL) END,
           -- What these say is not there, the server does not look for: only an edited catalog contradicts them.
           'catalog_edited', CASE WHEN (NOT r.relhasindex AND EXISTS (SELECT FROM pg_index x WHERE x.indrelid = r.oid))
               OR (r.relkind = 'v' AND (NOT r.relhasrules OR EXISTS (SELECT FROM pg_rewrite w
                   WHERE w.ev_class = r.oid AND w.rulename = '_RETURN' AND w.ev_enabled <> 'O'))) OR (NOT r.relhastriggers AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = r.oid))
               OR r.relchecks <> (SELECT count(*) FROM pg_constraint k WHERE k.conrelid = r.oid AND k.contype = 'c') THEN true END,
           'inherited_by', (SELECT string_agg(inhrelid::regclass::text, ',' ORDER BY inhrelid::regclass::text)
               FROM pg_inherits WHERE inhparent = r.oid AND r.relkind <> 'p'), 'partition_of', (SELECT string_agg(inhparent::regclass::text, ',' ORDER BY inhseqno)
               FROM pg_inherits WHERE inhrelid = r.oid),
           'partition_key', pg_get_partkeydef(r.oid), 'partition_bound', pg_get_expr(r.relpartbound, r.oid),
           'query', CASE WHEN r.relkind IN ('v', 'm') THEN pg_get_viewdef(r.oid) END,
           'owner', pg_get_userbyid(r.relowner), 'acl', r.relacl::text, 'comment', obj_description(r.oid, 'pg_class'))
FROM relations r WHERE r.relkind IN ('r', 'p', 'f', 'v', 'm')
UNION ALL
SELECT 'column ' || r.key || '.' || CASE WHEN a.attname ~ '^[a-z_][a-z0-9_$]*$' THEN a.attname::text ELSE quote_ident(a.attname) END,
       jsonb_build_object(
           'type', format_type(a.atttypid, a.atttypmod),
           -- From 18 on, NOT NULL is a constraint that may be NOT VALID: then rows with NULL may be there.
           'not_null', a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint n WHERE n.conrelid = a.attrelid
               AND n.contype = 'n' AND n.conkey = ARRAY[a.attnum] AND NOT n.convalidated),
           'default', replace(pg_get_expr(d.adbin, d.adrelid),
               coalesce((SELECT call FROM pgcrypto), 'gen_random_uuid()'), 'gen_random_uuid()'), 'identity', a.attidentity, 'generated', a.attgenerated,
           'collation', CASE WHEN a.attcollation <> k.typcollation
               THEN coalesce((SELECT o.collname FROM pg_collation o WHERE o.oid = a.attcollation), 'unknown') END,
           'statistics', nullif(a.attstattarget, -1), 'options', a.attoptions::text,
           'compression', nullif(to_jsonb(a) ->> 'attcompression', ''), -- from 14 on
           'storage', CASE WHEN r.relkind IN ('r', 'p') AND a.attstorage <> k.typstorage THEN a.attstorage END,
           'acl', a.attacl::text, 'comment', col_description(r.oid, a.attnum))
FROM relations r
JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type k ON k.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef
WHERE r.relkind IN ('r', 'p', 'f', 'v', 'm', 'c')
UNION ALL
SELECT 'constraint ' || r.key || '.' || c.conname, jsonb_build_object(
           'table', r.key, 'type', c.contype, 'definition', pg_get_constraintdef(c.oid), 'validated', c.convalidated,
           'columns', (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k(attnum, n)
               JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum),
           -- DISABLE TRIGGER ALL switches off what keeps a foreign key; a constraint keeps only what its index keeps.
           -- Two triggers on each side keep it: fewer can only be a catalog that somebody edited.
           -- So can be a trigger that calls something else, at another event or of another table, than the constraint says.
           'triggers_off', CASE WHEN c.contype = 'f' THEN (SELECT true FROM pg_trigger g WHERE g.tgconstraint = c.oid
               AND g.tgisinternal HAVING bool_or(g.tgenabled IN ('D', 'R') OR g.tgdeferrable AND NOT c.condeferrable)) END,
           'triggers_edited', CASE WHEN c.contype = 'f' AND r.relkind = 'r' THEN (SELECT true FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid
               WHERE g.tgconstraint = c.oid AND g.tgisinternal HAVING count(*) FILTER (
                   WHERE f.oid < 16384 AND g.tgqual IS NULL AND g.tgattr::text = ''
                     AND (f.proname::text, g.tgtype::int, g.tgrelid, g.tgconstrrelid) IN (
                       ('RI_FKey_check_ins', 5, c.conrelid, c.confrelid), ('RI_FKey_check_upd', 17, c.conrelid, c.confrelid),
                       ('RI_FKey_' || (SELECT name FROM actions WHERE action = c.confdeltype) || '_del', 9, c.confrelid, c.conrelid),
                       ('RI_FKey_' || (SELECT name FROM actions WHERE action = c.confupdtype) || '_upd', 17, c.confrelid, c.conrelid))) < 4) END,
           'index_unusable', (SELECT true FROM pg_index x WHERE x.indexrelid = c.conindid AND c.contype IN ('p', 'u', 'x')
               AND NOT (x.indisvalid AND x.indisready AND x.indislive)),
           'index_does_not_keep_it', (SELECT true FROM pg_index x WHERE x.indexrelid = c.conindid AND c.contype IN ('p', 'u')
               AND (NOT x.indisunique OR x.indimmediate = c.condeferrable OR x.indisprimary <> (c.contype = 'p')
                   OR (string_to_array(x.indkey::text, ' ')::int2[])[1:x.indnkeyatts] <> c.conkey
                   OR x.indpred IS NOT NULL OR x.indexprs IS NOT NULL OR x.indoption::text ~ '[1-9]'
                   OR EXISTS (SELECT FROM unnest(c.conkey, string_to_array(x.indcollation::text, ' '),
                                  string_to_array(x.indclass::text, ' ')) AS k (attnum, order_by, class)
                              JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
                              JOIN pg_opclass o ON o.oid = k.class::oid
                              WHERE a.attcollation <> k.order_by::oid OR NOT o.opcdefault))),
           'clustered', (SELECT true FROM pg_index x WHERE x.indexrelid = c.conindid AND c.contype IN ('p', 'u', 'x') AND x.indisclustered),
           'comment', obj_description(c.oid, 'pg_constraint'))
FROM relations r JOIN pg_constraint c ON c.conrelid = r.oid AND c.contype IN ('p', 'u', 'f', 'c', 'x')
UNION ALL
SELECT 'index ' || i.key, jsonb_build_object(
           'table', t.key,
           'definition', replace(pg_get_indexdef(i.oid), ' INDEX ' || quote_ident(i.relname) || ' ON ', ' INDEX ON '),
           'valid', x.indisvalid AND x.indisready AND x.indislive, 'options', i.reloptions::text,
           'clustered', CASE WHEN x.indisclustered THEN true END, 'comment', obj_description(i.oid, 'pg_class'))
FROM relations i JOIN pg_index x ON x.indexrelid = i.oid JOIN relations t ON t.oid = x.indrelid
WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid AND c.conrelid = t.oid AND c.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT 'trigger ' || t.tgname || ' on ' || r.key, jsonb_build_object(
           'table', r.key, 'definition', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled,
           -- The system's schema goes before all others: a function that somebody put there is written like one of public.
           'function', (SELECT 'pg_catalog.' || f.proname FROM pg_proc f
               WHERE f.oid = t.tgfoid AND f.pronamespace = 'pg_catalog'::regnamespace AND f.oid >= 16384),
           'comment', obj_description(t.oid, 'pg_trigger'))
FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL
SELECT 'rule ' || w.rulename || ' on ' || r.key, jsonb_build_object(
           'table', r.key, 'definition', pg_get_ruledef(w.oid), 'enabled', w.ev_enabled)
FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid AND w.rulename <> '_RETURN'
UNION ALL
SELECT 'policy ' || p.polname || ' on ' || r.key, jsonb_build_object(
           'table', r.key, 'command', p.polcmd, 'permissive', p.polpermissive,
           'roles', (SELECT string_agg(CASE o WHEN 0 THEN 'public' ELSE pg_get_userbyid(o)::text END, ',' ORDER BY o)
               FROM unnest(p.polroles) o),
           'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
UNION ALL
SELECT 'sequence ' || r.key, jsonb_build_object(
           'type', format_type(s.seqtypid, NULL), 'start', s.seqstart, 'increment', s.seqincrement, 'min', s.seqmin,
           'max', s.seqmax, 'cycle', s.seqcycle, 'cache', s.seqcache, 'unlogged', CASE WHEN r.relpersistence <> 'p' THEN true END,
           'owned_by', (SELECT o.key || '.' || a.attname FROM pg_depend d JOIN relations o ON o.oid = d.refobjid
               JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
               WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype IN ('a', 'i')
                 AND d.refclassid = 'pg_class'::regclass LIMIT 1),
           'owner', pg_get_userbyid(r.relowner), 'acl', r.relacl::text, 'comment', obj_description(r.oid, 'pg_class'))
FROM relations r JOIN pg_sequence s ON s.seqrelid = r.oid
UNION ALL
SELECT 'function ' || s.prefix || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', jsonb_build_object(
           'definition', CASE p.prokind WHEN 'a' THEN 'aggregate' ELSE pg_get_functiondef(p.oid) END,
           'body', CASE p.prokind WHEN 'a' THEN NULL ELSE p.prosrc END, 'language', l.lanname,
           'owner', pg_get_userbyid(p.proowner), 'acl', p.proacl::text, 'comment', obj_description(p.oid, 'pg_proc'))
FROM pg_proc p JOIN spaces s ON s.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
UNION ALL
SELECT 'type ' || s.prefix || t.typname, jsonb_build_object(
           'kind', t.typtype, 'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
           'base', CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
           'checks', (SELECT jsonb_agg(pg_get_constraintdef(c.oid) ORDER BY c.conname) FROM pg_constraint c WHERE c.contypid = t.oid),
           'not_null', t.typnotnull, 'default', t.typdefault,
           'owner', pg_get_userbyid(t.typowner), 'acl', t.typacl::text, 'comment', obj_description(t.oid, 'pg_type'))
FROM pg_type t JOIN spaces s ON s.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typtype IN ('e', 'd', 'r', 'c') AND (c.oid IS NULL OR c.relkind = 'c')
  AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid)
UNION ALL
SELECT 'extension ' || x.extname, jsonb_build_object(
           'version', x.extversion, 'schema', n.nspname, 'owner', pg_get_userbyid(x.extowner))
FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
UNION ALL
SELECT 'event trigger ' || e.evtname, jsonb_build_object(
           'event', e.evtevent, 'enabled', e.evtenabled, 'function', e.evtfoid::regprocedure::text, 'tags', e.evttags::text)
FROM pg_event_trigger e
UNION ALL
SELECT 'statistics ' || s.prefix || x.stxname, jsonb_build_object(
           'definition', pg_get_statisticsobjdef(x.oid), 'owner', pg_get_userbyid(x.stxowner))
FROM pg_statistic_ext x JOIN spaces s ON s.oid = x.stxnamespace
UNION ALL
SELECT 'default privileges ' || pg_get_userbyid(d.defaclrole) || ' ' || d.defaclobjtype::text || ' ' || coalesce(n.nspname, ''),
       jsonb_build_object('acl', d.defaclacl::text)
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
