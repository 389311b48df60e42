"""Stand-ins for the modules that componentize-py generates, for tests: the same names, over the platform in memory."""

import sys
import types as python
from dataclasses import dataclass, make_dataclass
from enum import Enum

# The platform of the test that runs. `testing.Platform` sets it for the time of a call.
current = None


@dataclass(frozen=True)
class Err(Exception):
    value: object


def _case(name, *fields):
    return make_dataclass(name, fields)


def _error(*cases):
    return {f"Error_{name}": _case(f"Error_{name}", *(["value"] if has else [])) for name, has in cases}


def _calls(module, *names):
    def call(name):
        def function(*arguments):
            if current is None:
                raise RuntimeError(f"{module}.{name} is called outside of a call of the platform")
            return getattr(current, f"_{module}_{name.rstrip('_')}")(*arguments)

        return function

    return {name: call(name) for name in names}


def _modules():
    values = ["Booleans", "Integers", "Reals", "Texts", "Blobs"]
    types = {f"Values_{name}": _case(f"Values_{name}", "value") for name in values}
    types |= {f"Failure_{name}": _case(f"Failure_{name}", "value") for name in ["Reject", "Retry"]}
    types["Quality"] = Enum("Quality", {"GOOD": 0, "UNCERTAIN": 1, "BAD": 2})
    types["Frame"] = _case("Frame", "slot", "entity", "at", "order", "quality", "values")
    types["Batch"] = _case("Batch", "entities", "frames")
    yield "types", types
    state = _error(("InvalidKey", True), ("TooLarge", True), ("QuotaExceeded", True), ("Other", True))
    state |= _calls("state", "get", "set", "delete", "get_rows", "set_rows", "scan")
    state |= {"Packed": _case("Packed", "lengths", "bytes"), "Entry": _case("Entry", "key", "value")}
    yield "state", state | {"Page": _case("Page", "entries", "next")}
    yield "invocation", _calls("invocation", "now", "id")
    yield "store", _calls("store", "get")
    levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"]
    yield "logging", {"Level": Enum("Level", levels)} | _calls("logging", "log")
    outputs = _error(
        *((name, True) for name in ("UnknownOutput", "UnknownEntity", "WrongType", "Malformed", "Other"))
    )
    yield "outputs", outputs | _calls("outputs", "publish")
    alarms = _error(("UnknownAlarm", True), ("TooLong", False), ("Other", True))
    yield "alarms", alarms | _calls("alarms", "raise_", "clear")
    yield "schedule", _error(("InvalidName", False), ("Other", True)) | _calls("schedule", "set", "cancel")


def _module(name, members):
    module = python.ModuleType(name)
    module.__path__ = []
    vars(module).update(members)
    sys.modules[name] = module


def install():
    """Puts the modules where `ironloom` looks for them."""
    for name in ["wit_world", "wit_world.imports", "wit_world.exports"]:
        _module(name, {})
    _module("componentize_py_types", {"Err": Err})
    refused = _case("Refused", "frame", "reading", "reason")
    _module("wit_world.exports.readings", {"Refused": refused})
    for name, members in _modules():
        _module(f"wit_world.imports.{name}", members)
