"""Writes bodies of pushes as polars makes them, one file each, into the folder that is given."""

import io
import pathlib
import sys
from datetime import datetime, timezone

import polars as pl

FOLDER = pathlib.Path(sys.argv[1])


def write(name, frame, **options):
    body = io.BytesIO()
    frame.write_ipc_stream(body, **options)
    (FOLDER / name).write_bytes(body.getvalue())


at = [datetime(2025, 3, 1, 12, 0, second, 250, tzinfo=timezone.utc) for second in (1, 2)]
write("polars", pl.DataFrame({
    "point": ["hall/1/temperature", "h/2"],
    "value": [21.5, -0.25],
    "at": at,
    "quality": ["good", "uncertain"],
}))
# Texts, short and long ones, and a point that is null nowhere; a part of a larger frame.
texts = pl.DataFrame({
    "point": ["no", "door/of/the/north/hall", "d/2", "no"],
    "value": ["no", "open since this morning", "on", "no"],
})
write("polars-texts", texts.slice(1, 2))
write("polars-oldest", texts.slice(1, 2), compat_level=pl.CompatLevel.oldest())
write("polars-categories", texts.slice(1, 2).with_columns(pl.col("point").cast(pl.Categorical)))
write("polars-blobs", pl.DataFrame({"point": ["b/1", "b/2"], "value": [b"\x00\xff", b"more than twelve"]}))
# Every row has the same bytes, and only once.
write("polars-common", pl.DataFrame({"n": range(1000)}).with_columns(
    pl.lit("line/7/state").alias("point"), pl.lit("a long text that all rows share " * 10).alias("value"),
).drop("n"))
many = pl.DataFrame({"n": range(100_000)})
write("polars-many", many.select(
    pl.format("plant/line-{}/value", pl.col("n") % 1000).alias("point"), pl.col("n").cast(pl.Float64).alias("value"),
))
