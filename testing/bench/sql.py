"""The job of "backbone interactions" in DuckDB's SQL, as well as it can be said in it. See duckdb.go for what it leaves out.

arguments: LAKE SORTED(0|1) THREADS MEMORY FILE...
prints {"rows": ..., "files": ...} of what it wrote
"""
import json, sys
import duckdb

lake, ordered, threads, memory, files = sys.argv[1], sys.argv[2] == "1", sys.argv[3], sys.argv[4], sys.argv[5:]

db = duckdb.connect()
db.execute(f"set threads={int(threads)}")
db.execute(f"set memory_limit='{memory}'")
db.execute(f"set temp_directory='{lake}.tmp'")
db.execute("set TimeZone='UTC'")
db.execute("set enable_progress_bar=false")
# Order within a file is kept only with this; without it, less has to be held.
db.execute(f"set preserve_insertion_order={'true' if ordered else 'false'}")

columns = {
    "event_id": "VARCHAR", "event_time": "VARCHAR", "user_id": "VARCHAR", "visitor_id": "VARCHAR", "event_type": "VARCHAR",
    "feedback_kind": "VARCHAR", "value": "DOUBLE", "value_unit": "VARCHAR", "received_time": "VARCHAR", "session_id": "VARCHAR",
    "item_id": "VARCHAR",
    "items": "STRUCT(item_id VARCHAR, position BIGINT, quantity BIGINT, unit_price DOUBLE, score DOUBLE, propensity DOUBLE)[]",
    "request_id": "VARCHAR", "query": "VARCHAR", "transaction_id": "VARCHAR", "revenue": "DOUBLE", "currency": "VARCHAR",
    "experiment_ids": "VARCHAR[]", "policy_id": "VARCHAR", "model_version": "VARCHAR",
    "context": "STRUCT(tz_offset_min BIGINT, local_hour BIGINT, local_dow BIGINT, country VARCHAR, region VARCHAR, city VARCHAR,"
               " geohash VARCHAR, device_class VARCHAR, os VARCHAR, browser VARCHAR, app_version VARCHAR, network VARCHAR,"
               " surface VARCHAR, referrer_medium VARCHAR, campaign VARCHAR, locale VARCHAR, is_bot BOOLEAN, user_agent VARCHAR)",
}

kinds = {
    "exposure": ["impression"],
    "explicit": ["rate", "like", "dislike", "hide", "report", "save", "share", "follow", "comment"],
    "correction": ["refund", "retract"],
    "implicit": ["view", "click", "add_to_cart", "remove_from_cart", "checkout", "purchase", "play_start", "play_progress",
                 "play_complete", "skip", "dwell", "search", "home_view", "category_view"],
}
no_item = ["checkout", "search", "home_view", "category_view", "follow", "refund", "retract"]


def strings(values):
    return "(" + ", ".join(f"'{v}'" for v in values) + ")"


# An id has at most 128 bytes, no "/" and no control characters; an absent one is good.
ids = ["event_id", "user_id", "visitor_id", "session_id", "item_id", "request_id", "transaction_id"]
good_ids = " and ".join(f"coalesce(strlen({i}) <= 128 and not regexp_matches({i}, '[/\\x00-\\x1f\\x7f-\\x9f]'), true)" for i in ids)
texts = ["value_unit", "policy_id", "model_version"]
good_texts = " and ".join(f"coalesce(strlen({t}) <= 1024, true)" for t in texts)
all_types = [t for types in kinds.values() for t in types]

rules = f"""
    event_id is not null and moment is not null and (user_id is not null or visitor_id is not null)
    and event_type in {strings(all_types)}
    and moment >= '1970-01-01 00:00:00+00'::timestamptz and moment <= now() + interval 24 hours
    and (item_id is not null or len(items) > 0 or event_type in {strings(no_item)})
    and (feedback_kind is null or feedback_kind in {strings(kinds)})
    and {good_ids} and {good_texts}
    and coalesce(strlen(query) <= 4096, true)
    and coalesce(len(items) <= 1000, true)
    and coalesce(len(experiment_ids) <= 100, true)
    and coalesce(len(list_filter(items, lambda i: i.item_id is null or strlen(i.item_id) > 128 or contains(i.item_id, '/')
        or i.position < 0 or i.quantity < 0 or i.propensity <= 0 or i.propensity > 1)) = 0, true)
    and coalesce(isfinite(value), true) and coalesce(isfinite(revenue), true)
    and coalesce(regexp_full_match(currency, '[A-Z]{{3}}'), true)
    and coalesce(regexp_full_match(context.country, '[A-Z]{{2}}'), true)
    and coalesce(context.tz_offset_min between -840 and 840, true)
    and coalesce(context.local_hour between 0 and 23, true)
    and coalesce(context.local_dow between 1 and 7, true)
"""

cases = " ".join(f"when event_type in {strings(types)} then '{kind}'" for kind, types in kinds.items())
shape = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
context = ", ".join(f"{c}: context.{c}" for c in [
    "country", "region", "city", "geohash", "device_class", "os", "browser", "app_version", "network", "surface",
    "referrer_medium", "campaign", "locale", "is_bot"])

query = f"""
with raw as (
    select *, try_cast(event_time as timestamptz) as moment,
        coalesce(context.tz_offset_min, case when event_time[-6] in ('+', '-') then
            (case when event_time[-6] = '-' then -1 else 1 end) * (try_cast(event_time[-5:-4] as bigint) * 60 + try_cast(event_time[-2:] as bigint)) end) as tz
    from read_json({files!r}, format='newline_delimited', columns={{{shape}}}, ignore_errors=true, filename=true)
), good as (
    select * from raw where {rules}
), once as (
    select distinct on (event_id) event_id, moment as event_time, user_id, visitor_id, event_type,
        coalesce(feedback_kind, case {cases} end) as feedback_kind, value, value_unit,
        try_cast(received_time as timestamptz) as received_time, now() as loaded_time, session_id, item_id, items, request_id, query,
        transaction_id, revenue, currency, experiment_ids, policy_id, model_version,
        {{tz_offset_min: tz,
          local_hour: coalesce(context.local_hour, extract(hour from epoch_ms(epoch_ms(moment) + tz * 60000))),
          local_dow: coalesce(context.local_dow, extract(isodow from epoch_ms(epoch_ms(moment) + tz * 60000))), {context}}} as context,
        {{source: filename, schema_version: 1}} as lineage,
        strftime(epoch_ms(epoch_ms(moment)), '%Y-%m-%d') as dt, strftime(epoch_ms(epoch_ms(moment)), '%H') as hour
    from good
)
select * from once {"order by dt, hour, coalesce(user_id, visitor_id), event_time" if ordered else ""}
"""
rows = db.execute(f"copy ({query}) to '{lake}' (format parquet, compression zstd, partition_by (dt, hour))").fetchone()[0]
print(json.dumps({"rows": rows}))
