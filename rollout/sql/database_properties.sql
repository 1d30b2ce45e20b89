-- What belongs to the database itself, and is in no dump of it: one JSON object. Its columns differ between majors.
SELECT jsonb_build_object(
    'name', d.datname,
    'encoding', pg_encoding_to_char(d.encoding),
    'collate', d.datcollate,
    'ctype', d.datctype,
    'provider', CASE to_jsonb(d) ->> 'datlocprovider' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
    'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
    'icu_rules', to_jsonb(d) ->> 'daticurules',
    'collation_version', to_jsonb(d) ->> 'datcollversion',
    'tablespace', t.spcname,
    'connection_limit', d.datconnlimit,
    'owner', pg_get_userbyid(d.datdba),
    'comment', shobj_description(d.oid, 'pg_database'),
    'acl', (SELECT jsonb_agg(jsonb_build_array(
                       CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable)
                   ORDER BY a.grantee <> 0, pg_get_userbyid(a.grantee), a.privilege_type)
            FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a),
    'settings', (SELECT jsonb_agg(jsonb_build_array(
                            CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END, to_jsonb(s.setconfig))
                        ORDER BY s.setrole <> 0, pg_get_userbyid(s.setrole))
                 FROM pg_db_role_setting s WHERE s.setdatabase = d.oid))
    || CASE WHEN d.datistemplate THEN '{"is_template": true}' ELSE '{}' END::jsonb -- older manifests have no such key
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
WHERE d.datname = coalesce(%(name)s, current_database())
