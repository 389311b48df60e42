"""Apps for Ironloom in Python: readings, state, outputs, alarms, timers and settings over the generated bindings.

`app.py` derives `Readings` from `ironloom.Readings`, `Timers` from `ironloom.Timers` where the manifest has timers, and
`Migration` from `ironloom.Migration` where the form of its state has changed.
"""

import importlib
import importlib.util
import json

NANOSECONDS = 1_000_000_000

# Outside of a component there are no bindings: a test has the platform in memory instead.
if importlib.util.find_spec("wit_world") is None:
    from . import bindings

    bindings.install()


def _imported(name, side="imports"):
    """A module of the bindings; None where the app's world doesn't have it."""
    try:
        return importlib.import_module(f"wit_world.{side}.{name}")
    except ImportError:
        return None


# While the component is made: nothing can be loaded from files later.
_feed = _imported("readings", "exports")
_types = _imported("types")
_state = _imported("state")
_invocation = _imported("invocation")
_store = _imported("store")
_logging = _imported("logging")
_outputs = _imported("outputs")
_alarms = _imported("alarms")
_schedule = _imported("schedule")
Err = importlib.import_module("componentize_py_types").Err


class Reject(Exception):
    """Raise it where the call can't be done, now or later: the host finds the reading that is to blame."""


class Retry(Exception):
    """Raise it where something is missing for now: the same call comes again, and what is behind it waits."""


class Mistake(Exception):
    """The host refused something: an undeclared name, a wrong type, a value that is too large."""


def _told(error):
    """The words of an error of the host's."""
    case = type(error).__name__.removeprefix("Error_")
    value = getattr(error, "value", None)
    return case if value is None else f"{case}: {value}"


def _call(module, world, function, *arguments):
    if module is None:
        raise Mistake(f"the app's world lacks it: add `include ironloom:platform/{world}@0.1.0;` to wit/world.wit")
    try:
        return getattr(module, function)(*arguments)
    except Err as error:
        raise Mistake(f"{world}.{function}: {_told(error.value)}") from None


def _answer(call):
    """Runs a call into the app, and turns what it raises into the host's words."""
    try:
        return call()
    except Retry as error:
        raise Err(_types.Failure_Retry(str(error))) from None
    except (Reject, Mistake) as error:
        raise Err(_types.Failure_Reject(str(error))) from None


def _dumps(value):
    try:
        # Not NaN: JSON has no such number, so that nobody else could read it back.
        return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise Mistake(f"{value!r:.200} can't be stored as JSON: {error}") from None


class Reading:
    """One reading of an input."""

    __slots__ = ("_batch", "_place", "input", "entity", "at", "value", "is_bad", "is_uncertain")

    def __init__(self, batch, place, input, entity, at, value, quality):
        self._batch, self._place = batch, place
        self.input, self.entity, self.at, self.value = input, entity, at, value
        # A bad reading's value is a placeholder: NaN, 0, false or empty.
        self.is_bad = quality == _types.Quality.BAD
        self.is_uncertain = quality == _types.Quality.UNCERTAIN

    def refuse(self, reason):
        """Makes this reading a dead letter. The rest of the batch goes on."""
        self._batch._refused.append((*self._place, str(reason)))


class Batch:
    """The readings of one call, in the order in which the site recorded them."""

    def __init__(self, batch):
        self.entities = batch.entities.split("\n")
        self.outputs = Outputs()
        self._frames, self._refused, self._tables = batch.frames, [], {}

    def __iter__(self):
        found = []
        for number, frame in enumerate(self._frames):
            quality = frame.quality or [_types.Quality.GOOD] * len(frame.at)
            orders = frame.order or range(len(frame.at))
            rows = zip(orders, frame.entity, frame.at, frame.values.value, quality)
            for place, (order, entity, at, value, quality) in enumerate(rows):
                entity = self.entities[entity]
                reading = Reading(self, (number, place), frame.slot, entity, at, value, quality)
                found.append((order, reading))
        found.sort(key=lambda one: one[0])
        return iter([reading for _, reading in found])

    def table(self, prefix):
        """What the app stored under `prefix` for each entity of the batch: a dict of JSON values by entity. What is
        put into it is stored when the call returns."""
        if prefix not in self._tables:
            self._tables[prefix] = _Table(prefix, self.entities)
        return self._tables[prefix]

    def derive(self, output, reading, value):
        """Publishes a derived reading for a reading's entity and time."""
        self.outputs.push(output, reading.entity, reading.at, value)

    def _end(self):
        for table in self._tables.values():
            table._save()
        self.outputs.publish()
        return [_feed.Refused(*one) for one in self._refused]


class _Table(dict):
    """JSON values by entity, loaded and stored with one host call each."""

    def __init__(self, prefix, entities):
        packed, at = _call(_state, "state", "get_rows", prefix), 0
        self._prefix, self._lines, self._before = prefix, {name: line for line, name in enumerate(entities)}, {}
        for entity, length in zip(entities, packed.lengths):
            if length >= 0:
                self._before[entity] = bytes(packed.bytes[at : at + length])
                self[entity] = json.loads(self._before[entity])
                at += length

    def _save(self):
        lines, lengths, values = [], [], []
        for entity, line in self._lines.items():
            value = _dumps(self[entity]) if entity in self else None
            if value != self._before.get(entity):
                lines.append(line)
                lengths.append(-1 if value is None else len(value))
                values.append(value or b"")
        strangers = [entity for entity in self if entity not in self._lines]
        if strangers:
            raise Mistake(f"{strangers[0]!r} is not an entity of the batch: use ironloom.state for other keys")
        if lines:
            _call(_state, "state", "set_rows", self._prefix, lines, _state.Packed(lengths, b"".join(values)))


class Outputs:
    """Derived readings, which are sent together."""

    _COLUMNS = ((bool, "Values_Booleans"), (int, "Values_Integers"), (float, "Values_Reals"), (str, "Values_Texts"))

    def __init__(self):
        self._readings = {}

    def push(self, output, entity, at, value):
        """Adds a derived reading: of an entity, at a time in nanoseconds since 1970."""
        if "\n" in entity:
            # The table of entities has one on each line.
            raise Mistake(f"the entity {entity!r} contains a line feed")
        self._readings.setdefault(output, []).append((entity, at, value))

    def publish(self):
        """Sends what was added; the end of `take` does it by itself."""
        if not self._readings:
            return
        lines, frames = {}, []
        for output, readings in self._readings.items():
            entity = [lines.setdefault(entity, len(lines)) for entity, _, _ in readings]
            values = self._column(output, [value for _, _, value in readings])
            frames.append(_types.Frame(output, entity, [at for _, at, _ in readings], None, None, values))
        self._readings = {}
        _call(_outputs, "outputs", "publish", _types.Batch("\n".join(lines), frames))

    def _column(self, output, values):
        columns = {self._of(kind) for kind in set(map(type, values))}
        if len(columns) > 1:
            # Alone, an integer would be refused for a real output: it is beside floats as well, and not converted.
            kinds = ", ".join(sorted({type(value).__name__ for value in values}))
            raise Mistake(f"the output {output} gets values of {kinds}; give all the type in app.toml: a real is 5.0, not 5")
        [column] = columns
        if column is None:
            return _types.Values_Blobs([bytes(value) for value in values])
        return getattr(_types, column)(values)

    def _of(self, kind):
        """The name of the column for a type; None for blobs."""
        return next((column for base, column in self._COLUMNS if issubclass(kind, base)), None)


class Readings:
    """The role of an app with inputs: override `take`."""

    def take(self, batch):
        """Takes the next readings. All of it takes effect when it returns, and nothing of it where it raises."""
        raise NotImplementedError

    def consume(self, batch):
        def call():
            taken = Batch(batch)
            self.take(taken)
            return taken._end()

        return _answer(call)


class Timers:
    """The role of an app with timers: override `ring`."""

    def ring(self, timer, due):
        """A timer is due; `due` is in nanoseconds since 1970."""
        raise NotImplementedError

    def fire(self, timer, due):
        return _answer(lambda: self.ring(timer, due))


class Migration:
    """The role of an app that brings what an earlier version stored into its form: override `step`. The world includes
    ironloom:platform/lifecycle."""

    def step(self, previous, resume):
        """Works on a copy of the state, which the version `previous` wrote. It is called again, with what it returned as
        `resume`, until it returns None. Where it raises, the version before goes on with the old state, and the admin
        sees the text of a `Reject`."""
        raise NotImplementedError

    def migrate(self, previous, resume):
        try:
            following = self.step(previous, None if resume is None else json.loads(bytes(resume)))
            return None if following is None else _dumps(following)
        except (Reject, Retry, Mistake) as error:
            # Its failure is a text: there is no later try.
            raise Err(str(error)) from None


class state:
    """JSON values by key, for what isn't about an entity of the batch."""

    @staticmethod
    def get(key, default=None):
        found = _call(_state, "state", "get", key)
        return default if found is None else json.loads(bytes(found))

    @staticmethod
    def set(key, value):
        _call(_state, "state", "set", key, _dumps(value))

    @staticmethod
    def delete(key):
        _call(_state, "state", "delete", key)

    @staticmethod
    def scan(prefix):
        """All keys that begin with `prefix`, with their values, in order."""
        after = None
        while True:
            page = _call(_state, "state", "scan", prefix, after, 1000)
            for entry in page.entries:
                yield entry.key, json.loads(bytes(entry.value))
            after = page.next
            if after is None:
                return


class alarms:
    """Alarms that the manifest lists."""

    @staticmethod
    def raise_(alarm, entity, message, since=None):
        """Raises it; `since` says since when things are so, in nanoseconds since 1970."""
        _call(_alarms, "alarms", "raise_", alarm, entity, message, since)

    @staticmethod
    def clear(alarm, entity, since=None):
        _call(_alarms, "alarms", "clear", alarm, entity, since)


class schedule:
    """Timers that fire once; the manifest has `schedule = true`."""

    @staticmethod
    def set(timer, due):
        _call(_schedule, "schedule", "set", timer, due)

    @staticmethod
    def cancel(timer):
        return _call(_schedule, "schedule", "cancel", timer)


def setting(name):
    """A setting as text; None where it isn't set. `float(setting("limit"))` reads a real."""
    return _call(_store, "base", "get", name)


def now():
    """The time of this call in nanoseconds since 1970. It stands still."""
    return _invocation.now()


class log:
    """The app's log."""

    @staticmethod
    def info(message):
        _logging.log(_logging.Level.INFO, "", str(message))

    @staticmethod
    def warn(message):
        _logging.log(_logging.Level.WARN, "", str(message))

    @staticmethod
    def error(message):
        _logging.log(_logging.Level.ERROR, "", str(message))
