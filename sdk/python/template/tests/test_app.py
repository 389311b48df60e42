import unittest

from ironloom import NANOSECONDS
from ironloom.testing import Platform

from app import Readings

NOON = 1_782_907_200 * NANOSECONDS  # 2026-07-01T12:00:00Z


class Smoothing(unittest.TestCase):
    def test_a_change_shows_by_two_thirds_after_the_time_of_smoothing(self):
        platform = Platform()
        platform.set("smoothing", 60)
        readings = [
            ("temperature", "attic", NOON, 20.0),
            ("temperature", "attic", NOON + 60 * NANOSECONDS, 30.0),
        ]
        self.assertIsNone(platform.consume(Readings(), readings).failure)
        first, second = platform.values("smoothed", "attic")
        self.assertEqual(first, (NOON, 20.0))
        self.assertAlmostEqual(second[1], 26.32, places=2)  # 1 - 1/e = 0.632…

    def test_the_alarm_stands_while_it_is_too_warm(self):
        platform = Platform()
        platform.set("smoothing", 0)
        for minute, (temperature, stands) in enumerate([(30.0, False), (30.1, True), (35.0, True), (29.0, False)]):
            at = NOON + minute * 60 * NANOSECONDS
            self.assertIsNone(platform.consume(Readings(), [("temperature", "attic", at, temperature)]).failure)
            self.assertEqual(("too-warm", "attic") in platform.alarms, stands, temperature)

    def test_an_impossible_reading_is_refused_alone(self):
        platform = Platform()
        readings = [("temperature", "attic", NOON, -300.0), ("temperature", "cellar", NOON, 12.0)]
        outcome = platform.consume(Readings(), readings)
        self.assertEqual(outcome.refused, [("attic", "-300.0 °C is colder than possible")])
        self.assertEqual(platform.values("smoothed", "cellar"), [(NOON, 12.0)])


if __name__ == "__main__":
    unittest.main()
