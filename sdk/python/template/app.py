"""Smooths temperatures, and raises an alarm while one is above a limit."""

import math

import ironloom
from ironloom import alarms, log, setting


class Readings(ironloom.Readings):
    def take(self, batch):
        limit, smoothing = float(setting("limit")), float(setting("smoothing"))
        # What the app remembers of each thermometer. Memory is gone after each call; this stays.
        thermometers = batch.table("thermometer/")
        for reading in batch:
            if reading.is_bad:
                continue
            if reading.value < -273.15:
                # This one becomes a dead letter, for somebody to look at. The rest goes on.
                reading.refuse(f"{reading.value} °C is colder than possible")
                continue
            first = {"smoothed": reading.value, "at": reading.at, "too_warm": False}
            thermometer = thermometers.setdefault(reading.entity, first)
            smooth(thermometer, reading.value, reading.at, smoothing)
            batch.derive("smoothed", reading, thermometer["smoothed"])

            too_warm = thermometer["smoothed"] > limit
            if too_warm and not thermometer["too_warm"]:
                message = f"{thermometer['smoothed']:.1f} °C, more than {limit} °C"
                alarms.raise_("too-warm", reading.entity, message)
                log.warn(f"{reading.entity} is too warm: {message}")
            elif not too_warm and thermometer["too_warm"]:
                alarms.clear("too-warm", reading.entity)
            thermometer["too_warm"] = too_warm


def smooth(thermometer, temperature, at, smoothing):
    """Moves the smoothed value towards a new one: the more, the longer the last one is ago."""
    seconds = max(at - thermometer["at"], 0) / ironloom.NANOSECONDS
    weight = 1.0 - math.exp(-seconds / smoothing) if smoothing > 0 else 1.0
    thermometer["smoothed"] += weight * (temperature - thermometer["smoothed"])
    # Readings can come out of order: time doesn't go back.
    thermometer["at"] = max(thermometer["at"], at)
