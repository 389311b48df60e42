"""The platform in memory, so that an app's tests run with plain Python: `python3 -m unittest`.

It knows what the manifest declares, and refuses what the host would refuse of names, types and sizes. The effects of a
failed call are undone. CPU time and memory aren't limited.
"""

import copy
import math
import tomllib
import unicodedata
from dataclasses import dataclass, field

from . import NANOSECONDS, bindings
from .bindings import Err

# The host's limits.
_MAX_VALUE = 64 * 1024
_MAX_PATH = 255
_MAX_SEGMENTS = 16

_COLUMNS = {"boolean": "Booleans", "integer": "Integers", "real": "Reals", "text": "Texts", "blob": "Blobs"}


def _module(name):
    import importlib

    return importlib.import_module("wit_world.imports." + name)


def _fail(module, case, *value):
    raise Err(getattr(_module(module), f"Error_{case}")(*value))


def _taken(slot, kind, value):
    """A value of an input as the host hands it over."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if kind == "real" and (is_integer or isinstance(value, float)):
        return float(value)
    fits = {
        "boolean": isinstance(value, bool),
        "integer": is_integer and -(2**63) <= value < 2**63,
        "text": isinstance(value, str),
        "blob": isinstance(value, bytes),
    }
    if not fits.get(kind, False):
        raise TypeError(f"the input {slot} is of type {kind}, and {value!r} is not")
    return value


def _check_entity(output, entity):
    """Refuses an entity that can't be part of a point's path."""
    segments = entity.split("/") if entity else []
    path = f"apps/test/{output}/{entity}"
    problem = None
    if "" in segments:
        problem = "it has an empty segment"
    elif "." in segments or ".." in segments:
        problem = "it has a segment `.` or `..`"
    elif any(letter in "+#{}" or unicodedata.category(letter) == "Cc" for letter in entity):
        problem = "it has a control character or one of `+ # { }`"
    elif len(path.encode()) > _MAX_PATH:
        problem = f"its point's path is longer than {_MAX_PATH} bytes"
    elif 3 + len(segments) > _MAX_SEGMENTS:
        problem = f"its point's path has more than {_MAX_SEGMENTS} segments"
    if problem is not None:
        _fail("outputs", "UnknownEntity", f"the output {output} has no point for the entity {entity!r}: {problem}")


@dataclass
class Outcome:
    """What a call came to: `failure` is None where it took effect, otherwise ("reject" or "retry", the reason)."""

    failure: tuple | None = None
    # Entity and reason of each reading that was refused.
    refused: list = field(default_factory=list)


class Platform:
    """All that is around an app."""

    def __init__(self, manifest="app.toml"):
        with open(manifest, "rb") as file:
            self.manifest = tomllib.load(file)
        declared = self.manifest.get("settings", {})
        self.settings = {name: _text(one["default"]) for name, one in declared.items() if "default" in one}
        self._all = {"state": {}, "alarms": {}, "timers": {}, "outputs": []}
        # Lines stay, whatever becomes of the call: (level, text).
        self.logs = []
        self.now = 0

    @property
    def state(self):
        """What is stored: bytes by key."""
        return self._all["state"]

    @property
    def alarms(self):
        """The alarms that stand: the message by (alarm, entity)."""
        return self._all["alarms"]

    @property
    def timers(self):
        """The one-shot timers that are set: the time by name."""
        return self._all["timers"]

    @property
    def outputs(self):
        """All derived readings: (output, entity, at, value)."""
        return self._all["outputs"]

    def values(self, output, entity):
        """The derived readings of an output for an entity: (at, value)."""
        return [(at, value) for name, of, at, value in self.outputs if (name, of) == (output, entity)]

    def set(self, name, value):
        """Sets a setting of the manifest."""
        if name not in self.manifest.get("settings", {}):
            raise KeyError(f"the manifest has no setting {name}")
        self.settings[name] = _text(value)

    def consume(self, role, readings):
        """Hands readings to the role: (input, entity, at in nanoseconds since 1970, value), and "good", "uncertain" or
        "bad" where it isn't good."""
        batch = self._batch(readings)
        self.now = max([self.now, *(one[2] for one in readings)])
        self._entities = batch.entities.split("\n")
        outcome, refused = self._call(lambda: role.consume(batch))
        for one in refused or []:
            frame = batch.frames[one.frame]
            outcome.refused.append((self._entities[frame.entity[one.reading]], one.reason))
        return outcome

    def fire(self, role, timer, due):
        """Lets a timer ring. One that asks for a retry stays."""
        self.now, self._entities = max(self.now, due), []
        was_set = self.timers.pop(timer, None)
        outcome = self._call(lambda: role.fire(timer, due))[0]
        if was_set is not None and outcome.failure is not None and outcome.failure[0] == "retry":
            self.timers[timer] = was_set
        return outcome

    def _call(self, call):
        before, bindings.current = copy.deepcopy(self._all), self
        try:
            return Outcome(), call()
        except Err as error:
            self._all = before
            return Outcome((type(error.value).__name__.removeprefix("Failure_").lower(), error.value.value)), None
        finally:
            bindings.current = None

    def _batch(self, readings):
        types, lines, frames = _module("types"), {}, {}
        for order, (slot, entity, at, value, *quality) in enumerate(readings):
            if slot not in self.manifest.get("inputs", {}):
                raise KeyError(f"the manifest has no input {slot}")
            quality = types.Quality[quality[0].upper() if quality else "GOOD"]
            line = lines.setdefault(entity, len(lines))
            value = _taken(slot, self.manifest["inputs"][slot]["type"], value)
            frames.setdefault(slot, []).append((line, at, order, quality, value))
        made = []
        for slot in (name for name in self.manifest["inputs"] if name in frames):
            entity, at, order, quality, values = map(list, zip(*frames[slot]))
            column = getattr(types, "Values_" + _COLUMNS[self.manifest["inputs"][slot]["type"]])
            quality = None if all(one == types.Quality.GOOD for one in quality) else quality
            made.append(types.Frame(slot, entity, at, order if len(frames) > 1 else None, quality, column(values)))
        return types.Batch("\n".join(lines), made)

    # The host's side of each function, by the names of `bindings`.

    def _check(self, key, value=b""):
        if not key or "\n" in key or len(key.encode()) > 512:
            _fail("state", "InvalidKey", key)
        if len(value) > 256 * 1024:
            _fail("state", "TooLarge", 256 * 1024)

    def _state_get(self, key):
        self._check(key)
        return self.state.get(key)

    def _state_set(self, key, value):
        self._check(key, value)
        self.state[key] = bytes(value)

    def _state_delete(self, key):
        self._check(key)
        self.state.pop(key, None)

    def _state_get_rows(self, prefix):
        found = [self.state.get(prefix + entity) for entity in self._entities]
        lengths = [-1 if value is None else len(value) for value in found]
        return _module("state").Packed(lengths, b"".join(value or b"" for value in found))

    def _state_set_rows(self, prefix, lines, values):
        # All of them, or none.
        at, rows = 0, []
        for line, length in zip(lines, values.lengths, strict=True):
            value = None if length < 0 else values.bytes[at : at + length]
            rows.append((prefix + self._entities[line], value))
            self._check(rows[-1][0], value or b"")
            at += max(length, 0)
        for key, value in rows:
            if value is None:
                self._state_delete(key)
            else:
                self._state_set(key, value)

    def _state_scan(self, prefix, after, limit):
        state = _module("state")
        keys = sorted(key for key in self.state if key.startswith(prefix) and key > (after or ""))
        entries = [state.Entry(key, self.state[key]) for key in keys[:limit]]
        return state.Page(entries, keys[limit - 1] if len(keys) > limit else None)

    def _invocation_now(self):
        return self.now

    def _store_get(self, key):
        return self.settings.get(key)

    def _logging_log(self, level, _context, message):
        self.logs.append((level.name.lower(), message))

    def _outputs_publish(self, batch):
        # All of them, or none.
        entities, readings = batch.entities.split("\n"), []
        for frame in batch.frames:
            declared = self.manifest.get("outputs", {}).get(frame.slot)
            if declared is None or declared["kind"] != "derived":
                _fail("outputs", "UnknownOutput", frame.slot)
            expected = "Values_" + _COLUMNS[declared["type"]]
            if type(frame.values).__name__ != expected:
                _fail("outputs", "WrongType", f"{frame.slot} is of type {declared['type']}")
            for entity, at, value in zip(frame.entity, frame.at, frame.values.value, strict=True):
                if isinstance(value, float) and not math.isfinite(value):
                    _fail("outputs", "Malformed", f"{frame.slot}: {value} is not finite")
                bytes_of = len(value.encode()) if isinstance(value, str) else len(value) if isinstance(value, bytes) else 0
                if bytes_of > _MAX_VALUE:
                    problem = f"a value has {bytes_of} bytes; at most {_MAX_VALUE} are allowed"
                    _fail("outputs", "Malformed", f"{frame.slot}: {problem}")
                _check_entity(frame.slot, entities[entity])
                readings.append((frame.slot, entities[entity], at, value))
        self.outputs.extend(readings)

    def _alarms_raise(self, alarm, entity, message, _since):
        self._check_alarm(alarm)
        if len(message.encode()) > 1024 or len(entity.encode()) > 512:
            _fail("alarms", "TooLong")
        self.alarms[alarm, entity] = message

    def _alarms_clear(self, alarm, entity, _since):
        self._check_alarm(alarm)
        self.alarms.pop((alarm, entity), None)

    def _check_alarm(self, alarm):
        if alarm not in self.manifest.get("alarms", {}):
            _fail("alarms", "UnknownAlarm", alarm)

    def _schedule_set(self, timer, due):
        if not timer or len(timer.encode()) > 256 or timer in self.manifest.get("timers", {}):
            _fail("schedule", "InvalidName")
        self.timers[timer] = max(due, self.now + NANOSECONDS)

    def _schedule_cancel(self, timer):
        return self.timers.pop(timer, None) is not None


def _text(value):
    """A setting as the host hands it over."""
    return str(value).lower() if isinstance(value, bool) else str(value)
