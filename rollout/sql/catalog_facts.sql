-- What the definition of an object (catalog.sql) does not show, and what nobody may change behind its owner's back either:
-- one row (key, facts, alone). Keys are those of catalog.sql, which does not have what stands `alone` here. Facts are
-- compared within one transaction only, so that oids and positions may be among them: a table or column that was dropped
-- and made again has others.
WITH relations AS (
    SELECT c.*, CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END
        || CASE WHEN c.relname ~ '^[a-z_][a-z0-9_$]*$' THEN c.relname::text ELSE quote_ident(c.relname) END AS key
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'rollout', 'rollout_shelf')
)
SELECT CASE WHEN r.relkind IN ('v', 'm') THEN 'view ' WHEN r.relkind IN ('i', 'I') THEN 'index ' WHEN r.relkind = 'S' THEN 'sequence '
            ELSE 'table ' END || r.key,
       jsonb_build_object('oid', r.oid::text, 'tablespace', r.reltablespace::text, 'access_method', r.relam::text,
           'replica_identity', (SELECT x.indisreplident FROM pg_index x WHERE x.indexrelid = r.oid)), false
FROM relations r
UNION ALL
SELECT 'column ' || r.key || '.' || CASE WHEN a.attname ~ '^[a-z_][a-z0-9_$]*$' THEN a.attname::text ELSE quote_ident(a.attname) END,
       jsonb_build_object('position', a.attnum, 'storage', a.attstorage, 'statistics', a.attstattarget,
           'options', a.attoptions::text, 'local', a.attislocal, 'inherited', a.attinhcount,
           'compression', to_jsonb(a) ->> 'attcompression'), false -- a column of the catalog since 14
FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
-- The internal triggers that keep a foreign key: DISABLE TRIGGER ALL switches them off.
SELECT 'constraint ' || r.key || '.' || c.conname, jsonb_build_object(
           'triggers', (SELECT string_agg(t.tgenabled::text, '' ORDER BY t.oid) FROM pg_trigger t WHERE t.tgconstraint = c.oid),
           'replica_identity', (SELECT x.indisreplident FROM pg_index x
               WHERE x.indexrelid = c.conindid AND c.contype IN ('p', 'u', 'x'))), false
FROM relations r JOIN pg_constraint c ON c.conrelid = r.oid
UNION ALL
SELECT 'policy ' || p.polname || ' on ' || r.key, jsonb_build_object('comment', obj_description(p.oid, 'pg_policy')), false
FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
UNION ALL
SELECT 'rule ' || w.rulename || ' on ' || r.key, jsonb_build_object('comment', obj_description(w.oid, 'pg_rewrite')), false
FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid
UNION ALL
SELECT 'function ' || CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END || p.proname
           || '(' || pg_get_function_identity_arguments(p.oid) || ')', jsonb_build_object('aggregate', to_jsonb(a) - 'aggfnoid'), false
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_aggregate a ON a.aggfnoid = p.oid
WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'rollout', 'rollout_shelf')
UNION ALL
SELECT 'the database', jsonb_build_object('owner', pg_get_userbyid(d.datdba), 'acl', d.datacl::text,
           'comment', shobj_description(d.oid, 'pg_database'), 'connections', d.datconnlimit,
           'settings', (SELECT string_agg(s.setrole::text || s.setconfig::text, ' ' ORDER BY s.setrole)
               FROM pg_db_role_setting s WHERE s.setdatabase IN (0, d.oid))), true
FROM pg_database d WHERE d.datname = current_database()
UNION ALL
SELECT pg_describe_object('pg_publication'::regclass, p.oid, 0), to_jsonb(p) - 'oid', true FROM pg_publication p
UNION ALL
SELECT pg_describe_object('pg_publication_rel'::regclass, p.oid, 0), to_jsonb(p) - 'oid', true FROM pg_publication_rel p
UNION ALL
SELECT pg_describe_object('pg_foreign_server'::regclass, s.oid, 0), to_jsonb(s) - 'oid', true FROM pg_foreign_server s
UNION ALL
SELECT pg_describe_object('pg_cast'::regclass, c.oid, 0), to_jsonb(c) - 'oid', true FROM pg_cast c WHERE c.oid >= 16384
UNION ALL
SELECT pg_describe_object('pg_operator'::regclass, o.oid, 0), to_jsonb(o) - 'oid', true FROM pg_operator o WHERE o.oid >= 16384
UNION ALL
SELECT pg_describe_object('pg_collation'::regclass, c.oid, 0), to_jsonb(c) - 'oid', true FROM pg_collation c WHERE c.oid >= 16384
UNION ALL
SELECT pg_describe_object('pg_ts_config'::regclass, c.oid, 0), to_jsonb(c) - 'oid', true FROM pg_ts_config c WHERE c.oid >= 16384
