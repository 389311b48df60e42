#!/usr/bin/env python3
"""Makes weighings.csv of dietox.csv: sorted by week, with the time of each weighing.

    python3 prepare.py          writes weighings.csv beside this script
    python3 prepare.py --check  exits 1 where the file isn't what this script makes

The trial says in which week an animal was weighed, not on which day. Here the trial begins on a Monday, and each
Monday the barn is weighed from seven o'clock on (UTC), one animal every five minutes, in the order of the file. So
an animal's weighings are exactly a week apart, and a day's timers fire between one week and the next. Weights
and feed are copied as they are written; the feed of a first weighing is missing in the trial and stays empty.
"""

import csv
import datetime
import io
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
START = datetime.datetime(2025, 1, 6, 7, 0, tzinfo=datetime.timezone.utc)
BETWEEN_ANIMALS = datetime.timedelta(minutes=5)


def weighings() -> str:
    with open(FOLDER / "dietox.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    place = {pig: number for number, pig in enumerate(dict.fromkeys(row["Pig"] for row in rows))}

    def at(row):
        return START + datetime.timedelta(weeks=int(row["Time"]) - 1) + place[row["Pig"]] * BETWEEN_ANIMALS

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["at", "Week", "Pig", "Litter", "Weight", "Feed"])
    for row in sorted(rows, key=at):
        feed = "" if row["Feed"] in ("", "NA") else row["Feed"]
        time = at(row).strftime("%Y-%m-%dT%H:%M:%SZ")
        writer.writerow([time, row["Time"], row["Pig"], row["Litter"], row["Weight"], feed])
    return text.getvalue()


def main() -> int:
    made, target = weighings(), FOLDER / "weighings.csv"
    if sys.argv[1:] == ["--check"]:
        same = target.exists() and target.read_text(encoding="utf-8") == made
        print("weighings.csv is up to date" if same else "weighings.csv isn't what prepare.py makes: run it")
        return 0 if same else 1
    target.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
