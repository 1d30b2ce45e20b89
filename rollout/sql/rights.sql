-- The rights of others on objects of public, by manifest key, as what gives them again. %(keys)s: the objects asked for.
WITH given AS (
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' ELSE 'table ' END || c.relname AS key,
           a.privilege_type AS privilege, CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END || quote_ident(c.relname) AS place,
           a.grantee, a.is_grantable
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND a.grantee <> c.relowner
    UNION ALL
    SELECT 'column ' || c.relname || '.' || t.attname, a.privilege_type || ' (' || quote_ident(t.attname) || ')',
           quote_ident(c.relname), a.grantee, a.is_grantable
    FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN aclexplode(t.attacl) a
    WHERE c.relnamespace = 'public'::regnamespace AND t.attnum > 0 AND NOT t.attisdropped AND a.grantee <> c.relowner
    UNION ALL
    SELECT 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', a.privilege_type,
           'FUNCTION ' || p.oid::regprocedure, a.grantee, a.is_grantable
    FROM pg_proc p CROSS JOIN aclexplode(p.proacl) a
    WHERE p.pronamespace = 'public'::regnamespace AND a.grantee NOT IN (0, p.proowner)
)
SELECT 'GRANT ' || string_agg(privilege, ', ' ORDER BY privilege) || ' ON ' || place || ' TO '
       || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
       || CASE WHEN is_grantable THEN ' WITH GRANT OPTION;' ELSE ';' END
FROM given WHERE key = ANY(%(keys)s) GROUP BY place, grantee, is_grantable ORDER BY 1
