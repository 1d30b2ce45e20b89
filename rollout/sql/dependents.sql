-- What of others would go, or break, with the objects that a rollback takes away (%(keys)s: manifest keys): one row
-- (object, statement that removes it). Everything that DROP … CASCADE would drop, and everything that others put on
-- our tables, which a plain DROP TABLE takes along without a word.
WITH RECURSIVE named AS (
    SELECT 'pg_class'::regclass::oid AS classid, c.oid AS objid, 0 AS objsubid, CASE c.relkind
               WHEN 'v' THEN 'view ' WHEN 'm' THEN 'view ' WHEN 'S' THEN 'sequence ' WHEN 'i' THEN 'index '
               ELSE 'table ' END || c.relname AS key
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'i')
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, a.attnum, 'column ' || c.relname || '.' || a.attname
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'pg_constraint'::regclass, o.oid, 0, 'constraint ' || c.relname || '.' || o.conname
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, 0, 'trigger ' || t.tgname || ' on ' || c.relname
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal
    UNION ALL
    SELECT 'pg_proc'::regclass, p.oid, 0, 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')'
    FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 0, 'type ' || t.typname FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'pg_extension'::regclass, e.oid, 0, 'extension ' || e.extname FROM pg_extension e
), going(classid, objid, objsubid) AS (
    SELECT classid, objid, objsubid FROM named WHERE key = ANY(%(keys)s)
    UNION
    -- A view is found through its rule, which depends on what the view reads.
    SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END, coalesce(r.ev_class, d.objid),
           CASE WHEN r.oid IS NULL THEN d.objsubid ELSE 0 END
    FROM going g
    JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
        AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid)
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    -- A child or partition of others is only let go: what depends on it stays.
    WHERE g.classid <> 'pg_class'::regclass OR g.objsubid > 0 OR g.objid NOT IN (SELECT inhrelid FROM pg_inherits)
       OR g.objid IN (SELECT objid FROM named WHERE classid = 'pg_class'::regclass AND key = ANY(%(keys)s))
), ours AS (
    SELECT objid FROM named WHERE classid = 'pg_class'::regclass AND objsubid = 0 AND key = ANY(%(keys)s)
), theirs AS (
    -- relations of others, which are named as a whole
    SELECT g.objid FROM going g WHERE g.classid = 'pg_class'::regclass AND g.objsubid = 0
    EXCEPT SELECT objid FROM ours
), members AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN going g ON g.classid = d.refclassid AND g.objid = d.refobjid
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
), others(classid, objid, objsubid, statement) AS (
    -- relations: views, partitions and children, indexes, sequences
    SELECT 'pg_class'::regclass, c.oid, 0, CASE
               WHEN c.relispartition AND i.inhparent IS NOT NULL
                   THEN format('ALTER TABLE %%s DETACH PARTITION %%s;', i.inhparent::regclass, c.oid::regclass)
               WHEN c.relkind IN ('r', 'f') AND i.inhparent IS NOT NULL
                   THEN format('ALTER TABLE %%s NO INHERIT %%s;', c.oid::regclass, i.inhparent::regclass)
               ELSE format('DROP %%s %%s;', CASE c.relkind
                   WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'i' THEN 'INDEX' WHEN 'I' THEN 'INDEX'
                   WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, c.oid::regclass) END
    FROM theirs g JOIN pg_class c ON g.objid = c.oid LEFT JOIN pg_index x ON x.indexrelid = c.oid
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent IN (SELECT objid FROM ours)
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'i', 'I') AND c.relnamespace <> 'pg_toast'::regnamespace
      AND coalesce(x.indrelid, 0) NOT IN (SELECT objid FROM theirs)
      AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = c.oid AND o.contype IN ('p', 'u', 'x'))
    UNION ALL
    -- tables of others that ours were made children or partitions of
    SELECT 'pg_class'::regclass, i.inhparent, 0, format(CASE WHEN c.relispartition THEN 'ALTER TABLE %%s DETACH PARTITION %%s;'
               ELSE 'ALTER TABLE %%2$s NO INHERIT %%1$s;' END, i.inhparent::regclass, i.inhrelid::regclass)
    FROM ours o JOIN pg_inherits i ON i.inhrelid = o.objid JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p')
    UNION ALL
    -- columns of tables that stay: their default or type is ours; columns that others added to tables that go
    SELECT 'pg_class'::regclass, a.attrelid, a.attnum,
           format(CASE WHEN x.is_default THEN 'ALTER TABLE %%s ALTER COLUMN %%I DROP DEFAULT;'
                       ELSE 'ALTER TABLE %%s DROP COLUMN %%I;' END, a.attrelid::regclass, a.attname)
    FROM (
        SELECT d.adrelid, d.adnum, true FROM going g JOIN pg_attrdef d ON g.classid = 'pg_attrdef'::regclass AND d.oid = g.objid
        WHERE d.adrelid NOT IN (SELECT objid FROM ours UNION ALL SELECT objid FROM theirs)
          AND NOT EXISTS (SELECT FROM going o WHERE o.classid = 'pg_class'::regclass AND o.objid = d.adrelid AND o.objsubid = d.adnum)
        UNION
        SELECT g.objid, g.objsubid, false FROM going g
        WHERE g.classid = 'pg_class'::regclass AND g.objsubid > 0
          AND g.objid NOT IN (SELECT objid FROM ours UNION ALL SELECT objid FROM theirs)
        UNION
        SELECT r.objid, a.attnum, false FROM ours r
        JOIN pg_class c ON c.oid = r.objid AND c.relkind IN ('r', 'p')
        JOIN pg_attribute a ON a.attrelid = r.objid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS x(relation, number, is_default)
    JOIN pg_attribute a ON a.attrelid = x.relation AND a.attnum = x.number AND NOT a.attisdropped
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'f')
    WHERE NOT EXISTS (SELECT FROM named n WHERE n.classid = 'pg_class'::regclass AND n.objid = a.attrelid
                      AND n.objsubid = a.attnum AND n.key = ANY(%(keys)s))
    UNION ALL
    SELECT g.classid, g.objid, 0,
           format('ALTER TABLE %%s DROP CONSTRAINT %%I;', o.conrelid::regclass, o.conname)
    FROM going g JOIN pg_constraint o ON g.classid = 'pg_constraint'::regclass AND o.oid = g.objid
    WHERE o.conrelid <> 0 AND o.contype IN ('p', 'u', 'f', 'c', 'x') AND o.conrelid NOT IN (SELECT objid FROM theirs)
    UNION ALL
    SELECT g.classid, g.objid, 0, format('DROP TRIGGER %%I ON %%s;', t.tgname, t.tgrelid::regclass)
    FROM going g JOIN pg_trigger t ON g.classid = 'pg_trigger'::regclass AND t.oid = g.objid
    WHERE NOT t.tgisinternal AND t.tgrelid NOT IN (SELECT objid FROM theirs)
    UNION ALL
    SELECT g.classid, g.objid, 0, format('DROP RULE %%I ON %%s;', r.rulename, r.ev_class::regclass)
    FROM ours c JOIN pg_rewrite r ON r.ev_class = c.objid AND r.rulename <> '_RETURN'
    CROSS JOIN LATERAL (SELECT 'pg_rewrite'::regclass::oid, r.oid) AS g(classid, objid)
    UNION ALL
    SELECT g.classid, g.objid, 0, format('DROP ROUTINE %%s;', p.oid::regprocedure)
    FROM going g JOIN pg_proc p ON g.classid = 'pg_proc'::regclass AND p.oid = g.objid
    WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = g.classid AND m.objid = g.objid)
    UNION ALL
    SELECT g.classid, g.objid, 0, format('DROP POLICY %%I ON %%s;', p.polname, p.polrelid::regclass)
    FROM going g JOIN pg_policy p ON g.classid = 'pg_policy'::regclass AND p.oid = g.objid
    UNION ALL
    SELECT g.classid, g.objid, 0, format('DROP STATISTICS %%s;', (SELECT format('%%I.%%I', n.nspname, s.stxname)
        FROM pg_namespace n WHERE n.oid = s.stxnamespace))
    FROM going g JOIN pg_statistic_ext s ON g.classid = 'pg_statistic_ext'::regclass AND s.oid = g.objid
    UNION ALL
    SELECT g.classid, g.objid, 0, format('ALTER PUBLICATION %%I DROP TABLE %%s;', p.pubname, r.prrelid::regclass)
    FROM going g JOIN pg_publication_rel r ON g.classid = 'pg_publication_rel'::regclass AND r.oid = g.objid
    JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid NOT IN (SELECT objid FROM theirs)
    UNION ALL
    -- types made over our tables or types: a domain, a range, a composite
    SELECT 'pg_type'::regclass, t.oid, 0, format('DROP TYPE %%s;', t.oid::regtype)
    FROM going g JOIN pg_type t ON t.typtype IN ('d', 'r', 'e', 'c')
        AND (g.classid, g.objid) IN (('pg_type'::regclass, t.oid), ('pg_class'::regclass, t.typrelid))
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE coalesce(c.relkind, 'c') = 'c'
      AND NOT EXISTS (SELECT FROM members m WHERE m.classid = g.classid AND m.objid = g.objid)
)
SELECT replace(i.type || ' ' || i.identity, 'public.', ''), o.statement
FROM (SELECT DISTINCT * FROM others) o CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, o.objsubid) i
WHERE NOT EXISTS (
    SELECT FROM named n
    WHERE n.key = ANY(%(keys)s) AND (n.classid, n.objid, n.objsubid) = (o.classid, o.objid, o.objsubid)
)
-- What was made later depends on what was made earlier: in this order the statements can be run.
ORDER BY o.objid DESC, 1
