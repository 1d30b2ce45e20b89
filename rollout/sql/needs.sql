-- What a server must have, and who must restore, for a copy of the connected database: one JSON object.
WITH extension_members AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
superuser AS (
    SELECT 'event trigger ' || evtname AS name, 'pg_event_trigger'::regclass AS class, oid FROM pg_event_trigger
    UNION ALL SELECT 'foreign data wrapper ' || fdwname, 'pg_foreign_data_wrapper'::regclass, oid
    FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'function ' || p.oid::regprocedure, 'pg_proc'::regclass, p.oid
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE NOT l.lanpltrusted AND l.lanname <> 'sql'
    UNION ALL SELECT 'language ' || lanname, 'pg_language'::regclass, oid FROM pg_language
    UNION ALL SELECT 'type ' || oid::regtype, 'pg_type'::regclass, oid FROM pg_type
    WHERE typtype = 'b' AND typelem = 0
    UNION ALL SELECT 'operator class ' || opcname, 'pg_opclass'::regclass, oid FROM pg_opclass
    UNION ALL SELECT 'access method ' || amname, 'pg_am'::regclass, oid FROM pg_am
    UNION ALL SELECT 'publication ' || pubname, 'pg_publication'::regclass, oid FROM pg_publication WHERE puballtables
)
SELECT jsonb_build_object(
    'bytes', pg_database_size(current_database()),
    'extensions', (SELECT jsonb_agg(jsonb_build_object('name', extname, 'version', extversion) ORDER BY extname)
                   FROM pg_extension),
    'collations', (
        SELECT jsonb_agg(DISTINCT c.collname ORDER BY c.collname) FROM pg_collation c
        WHERE c.collnamespace = 'pg_catalog'::regnamespace AND c.collname NOT IN ('default', 'C', 'POSIX')
          AND (c.oid IN (SELECT attcollation FROM pg_attribute WHERE attrelid >= 16384)
               OR c.oid IN (SELECT typcollation FROM pg_type WHERE oid >= 16384)
               OR c.oid IN (SELECT unnest(indcollation::oid[]) FROM pg_index WHERE indexrelid >= 16384))
    ),
    'tablespaces', (
        SELECT jsonb_agg(DISTINCT t.spcname ORDER BY t.spcname)
        FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE c.oid >= 16384
    ),
    'superuser', (
        SELECT jsonb_agg(s.name ORDER BY s.name) FROM superuser s
        WHERE s.oid >= 16384
          AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = s.class AND e.objid = s.oid)
    )
)
