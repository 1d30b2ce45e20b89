-- The roles that own or may use something here, and every membership that gives somebody their rights, or them
-- somebody's: what a restore needs to be there. One JSON object.
-- pg_shdepend leaves out the bootstrap superuser, so owners are added.
WITH RECURSIVE here AS (SELECT oid, datdba FROM pg_database WHERE datname = current_database()),
owned AS (
    SELECT datdba AS oid FROM here
    UNION SELECT s.refobjid FROM pg_shdepend s, here
    WHERE s.refclassid = 'pg_authid'::regclass AND s.dbid = here.oid AND s.deptype = 'o'
    UNION SELECT relowner FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'
    UNION SELECT nspowner FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_'
    UNION SELECT proowner FROM pg_proc WHERE oid >= 16384
    UNION SELECT typowner FROM pg_type WHERE oid >= 16384
), needed AS (
    SELECT oid FROM owned
    UNION SELECT s.refobjid FROM pg_shdepend s, here
    WHERE s.refclassid = 'pg_authid'::regclass
      AND (s.dbid = here.oid OR (s.classid = 'pg_database'::regclass AND s.objid = here.oid))
), members AS (
    SELECT m.roleid, m.member FROM pg_auth_members m JOIN needed n ON n.oid = m.roleid
    UNION SELECT m.roleid, m.member FROM pg_auth_members m JOIN members b ON b.member = m.roleid
), groups AS (
    SELECT m.roleid, m.member FROM pg_auth_members m JOIN needed n ON n.oid = m.member
    UNION SELECT m.roleid, m.member FROM pg_auth_members m JOIN groups b ON b.roleid = m.member
)
SELECT jsonb_build_object(
    'roles', (
        SELECT jsonb_agg(jsonb_build_object('name', r.rolname, 'owns', r.oid IN (SELECT oid FROM owned)) ORDER BY r.rolname)
        FROM pg_roles r JOIN needed USING (oid) WHERE r.rolname !~ '^pg_'
    ),
    'memberships', (
        SELECT jsonb_agg(DISTINCT jsonb_build_object(
            'role', g.rolname, 'member', u.rolname, 'admin', m.admin_option,
            'inherit', coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, u.rolinherit),
            'set', coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)))
        FROM (SELECT * FROM members UNION SELECT * FROM groups) b
        JOIN pg_auth_members m ON m.roleid = b.roleid AND m.member = b.member
        JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
    )
)
