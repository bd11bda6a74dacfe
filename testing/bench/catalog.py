"""The job of "backbone catalog" for items in DuckDB's SQL. See catalog.go for what it leaves out.

arguments: MODE(full|delta) STATE|"" OUT AS_OF THREADS MEMORY FILE...
writes OUT/state.parquet, all items as of AS_OF in the order of their ids, and OUT/history.parquet, the versions that it has closed
"""
import os, sys
import duckdb

mode, before, out, as_of, threads, memory, files = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5], sys.argv[6], sys.argv[7:]

os.makedirs(out, exist_ok=True)
db = duckdb.connect()
db.execute(f"set threads={int(threads)}")
db.execute(f"set memory_limit='{memory}'")
db.execute(f"set temp_directory='{out}.tmp'")
db.execute("set TimeZone='UTC'")
db.execute("set enable_progress_bar=false")
db.execute("set preserve_insertion_order=false")  # what is sorted stays so

content = {
    "item_type": "VARCHAR", "title": "VARCHAR", "categories": "VARCHAR[]", "brand": "VARCHAR", "tags": "VARCHAR[]", "price": "DOUBLE",
    "currency": "VARCHAR", "availability": "VARCHAR", "rating": "DOUBLE", "rating_count": "BIGINT", "published_time": "TIMESTAMPTZ",
    "available_from": "TIMESTAMPTZ", "expires": "TIMESTAMPTZ", "content": "VARCHAR", "language": "VARCHAR", "uri": "VARCHAR",
    "image_uris": "VARCHAR[]", "embedding": "FLOAT[]", "attributes": "MAP(VARCHAR, VARCHAR)", "numbers": "MAP(VARCHAR, DOUBLE)",
    "extra": "MAP(VARCHAR, VARCHAR)",
}
columns = {"item_id": "VARCHAR", "updated_time": "TIMESTAMPTZ", "is_deleted": "BOOLEAN"} | content
shape = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
at = f"'{as_of}'::timestamptz"

# Of several rows with one id, the one that was updated last. (A delta's others would be versions of the history; here, all of
# them are known already.)
export = f"""
    select * replace (coalesce(updated_time, {at}) as updated_time, coalesce(is_deleted, false) as is_deleted)
    from read_json({files!r}, format='newline_delimited', columns={{{shape}}})
    qualify row_number() over (partition by item_id order by updated_time desc, is_deleted desc) = 1
"""

if before:
    # A row of the export is newer, or what is known stays; what a full export does not have is deleted.
    absent = "n.item_id is null and not o.is_deleted" if mode == "full" else "false"
    newer = "n.item_id is not null and (o.item_id is null or n.updated_time > o.updated_time)"

    def merged(name):
        return f"case when {newer} then n.{name} when not ({absent}) then o.{name} end as {name}"

    state = f"""
        select coalesce(n.item_id, o.item_id) as item_id,
            case when {newer} then n.updated_time when {absent} then {at} else o.updated_time end as updated_time,
            case when {newer} then n.is_deleted else o.is_deleted or {absent} end as is_deleted,
            case when {newer} then n.updated_time when {absent} then {at} else o.valid_from end as valid_from,
            {", ".join(merged(name) for name in content)}
        from ({export}) n full outer join read_parquet('{before}') o on n.item_id = o.item_id
    """
else:
    state = f"select item_id, updated_time, is_deleted, updated_time as valid_from, {', '.join(content)} from ({export})"

db.execute(f"copy ({state} order by item_id) to '{out}/state.parquet' (format parquet, compression zstd)")
if before:
    db.execute(f"""copy (
        select o.*, n.valid_from as valid_to
        from read_parquet('{before}') o join read_parquet('{out}/state.parquet') n on o.item_id = n.item_id
        where n.valid_from <> o.valid_from
        order by o.item_id
    ) to '{out}/history.parquet' (format parquet, compression zstd)""")
