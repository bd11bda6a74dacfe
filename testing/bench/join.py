"""The join of "backbone interactions --context" in Bytewax, and a count of what was joined. See join.go for what it leaves out.

arguments: CONTEXTS EVENTS TTL_SECONDS
prints {"joined": N, "unjoined": N}
"""
import json, sys
from bisect import bisect_right, insort
from datetime import datetime, timedelta
from itertools import islice

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

contexts, events, ttl = sys.argv[1], sys.argv[2], timedelta(seconds=int(sys.argv[3]))


class Lines(StatefulSourcePartition):
    """All contexts, then all events, a thousand at a time."""

    def __init__(self):
        self.lines = ((kind, line) for kind, name in ((0, contexts), (1, events)) for line in open(name, "rb"))

    def next_batch(self):
        batch = list(islice(self.lines, 1000))
        if not batch:
            raise StopIteration()
        return batch

    def snapshot(self):
        return None


class Source(FixedPartitionedSource):
    def list_parts(self):
        return ["all"]

    def build_part(self, step_id, for_part, resume_state):
        return Lines()


def decode(pair):
    kind, line = pair
    record = json.loads(line)
    return record["session_id"], (kind, datetime.fromisoformat(record["event_time"]), record)


def join(state, value):
    """The latest context of the session at or before the event, if it still holds."""
    kind, at, record = value
    state = [] if state is None else state
    if kind == 0:
        insort(state, (at, record["event_id"], record), key=lambda c: c[:2])
        return state, ()
    n = bisect_right(state, at, key=lambda c: c[0])
    found = n > 0 and at - state[n - 1][0] <= ttl
    if found:
        record["context"] = state[n - 1][2]["context"] | record.get("context", {})
        record["context_attributes"] = state[n - 1][2]["attributes"]
    record["context_joined"] = found
    return state, (record,)


counts = {True: 0, False: 0}


class Count(StatelessSinkPartition):
    def write_batch(self, items):
        for _, record in items:
            counts[record["context_joined"]] += 1


class Sink(DynamicSink):
    def build(self, step_id, worker_index, worker_count):
        return Count()


flow = Dataflow("join")
keyed = op.map("decode", op.input("lines", flow, Source()), decode)
op.output("count", op.stateful_flat_map("join", keyed, join), Sink())
cluster_main(flow, [], 0, epoch_interval=timedelta(hours=1))
print(json.dumps({"joined": counts[True], "unjoined": counts[False]}))
