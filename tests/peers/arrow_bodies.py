"""Writes bodies of pushes as pyarrow makes them, one file each, into the folder that is given."""

import pathlib
import sys
from datetime import datetime, timezone

import pyarrow as pa

FOLDER = pathlib.Path(sys.argv[1])
UTC = pa.timestamp("us", tz="UTC")


def write(name, table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    (FOLDER / name).write_bytes(sink.getvalue().to_pybytes())


def at(second):
    return datetime(2025, 3, 1, 12, 0, second, 250, tzinfo=timezone.utc)


write("dictionary", pa.table({
    "point": pa.array(["hall/1/t", "hall/2/t", "hall/1/t"]).dictionary_encode(),
    "value": [21.5, 22.0, -0.25],
    "at": pa.array([at(1), at(2), None], UTC),
    "quality": pa.array([0, 1, None], pa.uint8()),
}))

# Several chunks, whose dictionaries differ, become several batches; with deltas, dictionaries that grow.
chunks = pa.chunked_array([pa.array(["a/x", "a/y"]).dictionary_encode(), pa.array(["a/y", "a/z"]).dictionary_encode()])
write("chunks", pa.table({"point": chunks, "value": pa.chunked_array([[1, 2], [3, 4]], pa.int64())}))
grown = [pa.array(["d/x", "d/y"]), pa.array(["d/x", "d/y", "d/z"])]
keys = [pa.array([0, 1], pa.int8()), pa.array([2, 0], pa.int8())]
batches = [
    pa.record_batch({"point": pa.DictionaryArray.from_arrays(key, names), "value": pa.array([True, False])})
    for key, names in zip(keys, grown)
]
sink = pa.BufferOutputStream()
with pa.ipc.new_stream(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as writer:
    for batch in batches:
        writer.write_batch(batch)
(FOLDER / "deltas").write_bytes(sink.getvalue().to_pybytes())

# A slice of larger columns, without a dictionary.
write("slice", pa.table({
    "point": pa.array(["no", "s/1", "s/2", "no"], pa.large_string()),
    "value": ["no", "on", "ä", "no"],
    "quality": ["good", "bad", "uncertain", "good"],
}).slice(1, 2))

types = pa.array([0, 1, 2, 0], pa.int8())
sparse = pa.UnionArray.from_sparse(types, [
    pa.array([1.5, None, None, None]),
    pa.array([None, "open", None, None]),
    pa.array([None, None, True, None]),
])
write("sparse", pa.table({
    "point": ["u/1", "u/2", "u/3", "u/4"],
    "value": sparse,
    "quality": pa.array(["good", "good", "good", "bad"]).dictionary_encode(),
}))
dense = pa.UnionArray.from_dense(
    types,
    pa.array([0, 0, 0, 1], pa.int32()),
    [pa.array([7, 8], pa.int64()), pa.array([b"\x00\xff"]), pa.array([False])],
)
write("dense", pa.table({"point": ["v/1", "v/2", "v/3", "v/4"], "value": dense}))

one = {"point": ["w/1"], "value": [1.0]}
write("compressed", pa.table(one), compression="lz4")
write("local", pa.table({**one, "at": pa.array([datetime(2025, 3, 1)], pa.timestamp("us"))}))
write("bad-rows", pa.table({"point": ["w/1", "apps/x/y", "w//2", "w/3"], "value": [1.0, 2.0, 3.0, float("nan")]}))

many = pa.array([f"m/{point % 1000}/v" for point in range(100_000)]).dictionary_encode()
write("many", pa.table({"point": many, "value": pa.array(range(100_000), pa.float64())}))
