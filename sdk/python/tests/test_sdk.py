"""The module `ironloom` on the platform in memory. The end-to-end tests run this in an app that `ironloom new` made."""

import math
import unittest

import ironloom
from ironloom import alarms, now, schedule, state
from ironloom.testing import Platform


class Takes(ironloom.Readings):
    def __init__(self, take):
        self.take = take


class Rings(ironloom.Timers):
    def ring(self, timer, due):
        out = ironloom.Outputs()
        out.push("smoothed", "x", due, 1.5)
        out.publish()
        state.set("rang", timer)


def run(take, readings=(("temperature", "a", 5, 1.0),)):
    platform = Platform()
    return platform, platform.consume(Takes(take), list(readings))


class Module(unittest.TestCase):
    def test_what_the_host_refuses_rejects_the_call_and_undoes_it(self):
        for take, words in [
            (lambda batch: batch.table("t/").update(a=math.nan), "can't be stored as JSON"),
            (lambda batch: batch.table("t/").update(other=1), "not an entity of the batch"),
            (lambda batch: alarms.raise_("no-such", "a", "m"), "UnknownAlarm: no-such"),
            (lambda batch: [batch.derive("smoothed", one, 5) for one in batch], "WrongType"),
            (lambda batch: [batch.derive("none", one, 5.0) for one in batch], "UnknownOutput"),
            (lambda batch: [batch.derive("smoothed", one, math.inf) for one in batch], "Malformed"),
            (lambda batch: state.set("", 1), "InvalidKey"),
            (lambda batch: state.set("k", "x" * 300_000), "TooLarge"),
        ]:
            platform, outcome = run(take)
            self.assertEqual(outcome.failure[0], "reject", words)
            self.assertIn(words, outcome.failure[1])
            self.assertEqual((platform.state, platform.outputs), ({}, []))

    def test_a_retry_keeps_its_reason(self):
        def take(batch):
            raise ironloom.Retry("later")

        self.assertEqual(run(take)[1].failure, ("retry", "later"))

    def test_state_lasts_and_readings_keep_their_order(self):
        seen = []

        def take(batch):
            seen.extend((one.entity, one.value, one.is_bad) for one in batch)
            batch.table("t/")["b"] = {"n": 1}
            state.set("k/1", [1])
            state.set("k/2", 2)
            self.assertEqual(list(state.scan("k/")), [("k/1", [1]), ("k/2", 2)])
            state.delete("k/2")
            schedule.set("later", now() + 60 * ironloom.NANOSECONDS)

        readings = [("temperature", "b", 7, 2.0), ("temperature", "a", 3, 1.0, "bad"), ("temperature", "b", 9, 3.0)]
        platform, outcome = run(take, readings)
        self.assertIsNone(outcome.failure)
        self.assertEqual(seen, [("b", 2.0, False), ("a", 1.0, True), ("b", 3.0, False)])
        self.assertEqual(platform.state, {"t/b": b'{"n":1}', "k/1": b"[1]"})
        self.assertEqual(platform.timers, {"later": 9 + 60 * ironloom.NANOSECONDS})

        self.assertIsNone(platform.fire(Rings(), "later", 10**12).failure)
        self.assertEqual(platform.outputs, [("smoothed", "x", 10**12, 1.5)])
        self.assertEqual(platform.timers, {})
        platform.consume(Takes(lambda batch: batch.table("t/").pop("b")), [("temperature", "b", 7, 2.0)])
        self.assertNotIn("t/b", platform.state)
