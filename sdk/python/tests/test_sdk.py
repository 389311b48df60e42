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


def derive_for(entity):
    def take(batch):
        out = ironloom.Outputs()
        out.push("smoothed", "a", now(), 1.0)
        out.push("smoothed", entity, now(), 1.0)
        out.publish()

    return take


def with_types(**types):
    """A platform with inputs and outputs of these types."""
    platform = Platform()
    platform.manifest["inputs"] = {name: {"type": kind} for name, kind in types.items()}
    platform.manifest["outputs"] = {name: {"kind": "derived", "type": kind} for name, kind in types.items()}
    return platform


class Module(unittest.TestCase):
    def test_inputs_have_the_types_that_the_host_gives_them(self):
        seen = []

        def take(batch):
            seen.extend((type(one.value), one.value) for one in batch)

        platform = with_types(level="real", count="integer", name="text")
        good = [("level", "a", 1, 20), ("count", "a", 2, 5), ("name", "a", 3, "x")]
        self.assertIsNone(platform.consume(Takes(take), good).failure)
        self.assertEqual(seen, [(float, 20.0), (int, 5), (str, "x")])
        for slot, value in [("level", "20"), ("level", True), ("count", 5.0), ("count", 2**63), ("name", 1)]:
            with self.assertRaisesRegex(TypeError, f"the input {slot} is of type"):
                platform.consume(Takes(take), [(slot, "a", 1, value)])

    def test_a_long_text_is_refused_as_the_host_does(self):
        def publish(text):
            def take(batch):
                out = ironloom.Outputs()
                out.push("name", "a", now(), text)
                out.publish()

            return Takes(take)

        platform = with_types(name="text")
        readings = [("name", "a", 1, "x")]
        self.assertIsNone(platform.consume(publish("é" * 32_768), readings).failure)
        failure = platform.consume(publish("é" * 32_769), readings).failure
        self.assertIn("Malformed", failure[1])

    def test_rows_are_stored_all_or_none(self):
        def take(batch):
            table = batch.table("t/")
            table["a"], table["b"] = 1, "x" * 300_000
            try:
                table._save()
            except ironloom.Mistake:
                table.pop("a")
                table.pop("b")

        readings = [("temperature", "a", 1, 1.0), ("temperature", "b", 1, 1.0)]
        platform, outcome = run(take, readings)
        self.assertIsNone(outcome.failure)
        self.assertEqual(platform.state, {})

    def test_a_timer_that_asks_for_a_retry_stays(self):
        class Waits(ironloom.Timers):
            def ring(self, timer, due):
                raise ironloom.Retry("not yet")

        platform, _ = run(lambda batch: schedule.set("later", now() + ironloom.NANOSECONDS))
        set_for = dict(platform.timers)
        self.assertEqual(platform.fire(Waits(), "later", 10**12).failure, ("retry", "not yet"))
        self.assertEqual(platform.timers, set_for)

    def test_what_the_host_refuses_rejects_the_call_and_undoes_it(self):
        for take, words in [
            (lambda batch: batch.table("t/").update(a=math.nan), "can't be stored as JSON"),
            (lambda batch: batch.table("t/").update(other=1), "not an entity of the batch"),
            (lambda batch: alarms.raise_("no-such", "a", "m"), "UnknownAlarm: no-such"),
            (lambda batch: [batch.derive("smoothed", one, 5) for one in batch], "WrongType"),
            (lambda batch: [batch.derive("smoothed", one, value) for one in batch for value in (5.0, 5)], "values of float, int"),
            (lambda batch: [batch.derive("none", one, 5.0) for one in batch], "UnknownOutput"),
            (lambda batch: [batch.derive("smoothed", one, math.inf) for one in batch], "Malformed"),
            (lambda batch: state.set("", 1), "InvalidKey"),
            *[(derive_for(entity), "UnknownEntity") for entity in ["a//b", "..", "a/{b}", "a\x07", "x" * 250, "a/" * 13 + "a"]],
            (lambda batch: schedule.set("x" * 257, now()), "InvalidName"),
            (lambda batch: state.set("k", "x" * 300_000), "TooLarge"),
        ]:
            platform, outcome = run(take)
            self.assertEqual(outcome.failure[0], "reject", words)
            self.assertIn(words, outcome.failure[1])
            self.assertEqual((platform.state, platform.outputs), ({}, []))

    def test_a_retry_keeps_its_reason_and_so_does_a_migration_that_fails(self):
        def take(batch):
            raise ironloom.Retry("later")

        self.assertEqual(run(take)[1].failure, ("retry", "later"))

        class Migration(ironloom.Migration):
            def step(self, previous, resume):
                if previous != "0.1.0":
                    raise ironloom.Reject(f"{previous} is unknown")
                return {"done": 1} if resume is None else None

        self.assertEqual(Migration().migrate("0.1.0", None), b'{"done":1}')
        self.assertIsNone(Migration().migrate("0.1.0", b'{"done":1}'))
        with self.assertRaises(ironloom.Err) as raised:
            Migration().migrate("0.0.9", None)
        self.assertEqual(raised.exception.value, "0.0.9 is unknown")

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
