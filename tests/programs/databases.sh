# sqlite3 on files: some MiB, indexes, joins, full text, two journal modes; read back natively.

if has_tool sqlite3 sqlite3; then
  cat >"$TMP/large.sql" <<'END'
pragma journal_mode = delete;
create table person(id integer primary key, name text, town integer, born integer);
create table town(id integer primary key, name text);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 200)
  insert into town select i, printf('town-%03d', i * 7919 % 1000) from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 40000)
  insert into person select i, printf('name-%d', i * 7919 % 40009), i * 31 % 200 + 1, 1900 + i % 120 from n;
commit;
create index person_town on person(town, born);
create index person_name on person(name);
select t.name, count(*), min(p.born), max(p.name) from person p join town t on t.id = p.town
  group by t.id order by 2 desc, 1 limit 20;
select name, born, rank() over (partition by town order by born, id) from person where town = 7 limit 10;
update person set born = born + 1 where town % 3 = 0;
delete from person where id % 11 = 0;
select json_group_array(json_object('id', id, 'name', name)) from (select * from person limit 5);
create virtual table words using fts5(text);
insert into words select name || ' of ' || town from person where id % 50 = 0;
select count(*) from words where words match 'name* AND 8';
pragma integrity_check;
vacuum;
END
  same sqlite3-large sqlite3 base.db ".read $TMP/large.sql"
  same sqlite3-wal-large sqlite3 base.db 'pragma journal_mode = wal' ".read $TMP/large.sql"
  same sqlite3-mmap sqlite3 base.db 'pragma mmap_size = 268435456' ".read $TMP/large.sql"
  sqlite3 "$TMP/native.db" ".read $TMP/large.sql" >/dev/null
  same sqlite3-dump sqlite3 "$TMP/native.db" .dump
  same sqlite3-rolled-back sqlite3 base.db 'create table t(a)' 'begin' 'insert into t values (1)' 'rollback' \
    'select count(*) from t'
  cat >"$TMP/rows.sql" <<'END'
create table item(id integer primary key, key text unique, value blob);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
  insert into item select i, printf('key-%08x', i * 7919 % 100003), zeroblob(i % 50) from n;
commit;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 300)
  update item set value = 'changed' where id in (select i * 331 from n);
select count(*), sum(length(value)), max(key) from item;
pragma wal_checkpoint(truncate);
pragma integrity_check;
END
  for journal in wal delete truncate memory; do
    same "sqlite3-rows-$journal" sqlite3 rows.db "pragma journal_mode = $journal" '.read '"$TMP/rows.sql"
  done
  for ((i = 0; i < 300; i++)); do echo "insert into t values ($i, 'row $i');"; done >"$TMP/commits.sql"
  same sqlite3-commits sqlite3 small.db 'pragma journal_mode = wal' 'pragma synchronous = normal' \
    'create table t(a integer primary key, b)' ".read $TMP/commits.sql" 'select count(*), sum(a) from t'
fi
