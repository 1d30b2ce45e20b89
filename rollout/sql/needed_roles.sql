-- The roles that own or may use something here, with the roles they are members of: what a restore needs to be there.
-- pg_shdepend leaves out the bootstrap superuser, so owners are added.
WITH here AS (SELECT oid, datdba FROM pg_database WHERE datname = current_database()),
needed AS (
    SELECT s.refobjid AS oid FROM pg_shdepend s, here
    WHERE s.refclassid = 'pg_authid'::regclass
      AND (s.dbid = here.oid OR (s.classid = 'pg_database'::regclass AND s.objid = here.oid))
    UNION SELECT datdba FROM here
    UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
)
SELECT r.rolname::text,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1)
FROM pg_roles r JOIN needed USING (oid) WHERE r.rolname !~ '^pg_' ORDER BY 1
