"""Works with a server by the client that was generated from its description: URL and package are the arguments."""

import sys

from ironloom_client import Client
from ironloom_client.api.default import (
    add_package,
    install,
    list_outputs,
    list_readings,
    push_readings,
    reset,
    resume,
    show_installation,
    show_package,
)
from ironloom_client.models import (
    Accepted,
    Installation,
    Installed,
    InstallRequest,
    ListReadingsOrder,
    PackageInfo,
    Problem,
    PushedReading,
    PushReadingsWait,
    Quality,
    Reset,
    Resumed,
)
from ironloom_client.types import File

url, package = sys.argv[1:]
# Lists of readings come as lines or tables, too.
client = Client(base_url=url, headers={"Accept": "application/json"})

with open(package, "rb") as file:
    added = add_package.sync(client=client, body=File(payload=file))
assert isinstance(added, PackageInfo), added
assert added.id == "com.example.thermometer"
assert added.inputs["temperature"].unit == "Cel"
assert isinstance(show_package.sync(added.digest, client=client), PackageInfo)

request = {"id": "rooms", "package": added.digest, "bindings": {"temperature": "house/{room}/temperature"}}
unbound = install.sync_detailed(client=client, body=InstallRequest.from_dict(request | {"bindings": {}}))
assert unbound.status_code == 422, unbound
assert isinstance(unbound.parsed, Problem) and unbound.parsed.kind == "unbound", unbound.parsed
assert unbound.parsed.where.field == "bindings.temperature", unbound.parsed

installed = install.sync_detailed(client=client, body=InstallRequest.from_dict(request))
assert installed.status_code == 201, installed
assert isinstance(installed.parsed, Installed) and installed.parsed.id == "rooms", installed.parsed
shown = show_installation.sync("rooms", client=client)
assert isinstance(shown, Installation) and shown.state == "running", shown
nobody = show_installation.sync("nobody", client=client)
assert isinstance(nobody, Problem) and nobody.kind == "not-found", nobody

readings = [
    PushedReading(point="house/attic/temperature", value=31.5),
    PushedReading(point="house/kitchen/temperature", value=21.5, quality=Quality.UNCERTAIN),
]
accepted = push_readings.sync(client=client, body=readings, wait=PushReadingsWait.APPLIED)
assert isinstance(accepted, Accepted), accepted
assert (accepted.accepted, accepted.applied) == (2, True), accepted
refused = push_readings.sync(client=client, body=PushedReading(point="a//b", value=1))
assert isinstance(refused, Problem) and refused.kind == "bad-lines", refused

back = list_readings.sync(client=client, point="house/kitchen/temperature")
assert [(item.point, item.value, item.quality) for item in back.items] == [
    ("house/kitchen/temperature", 21.5, Quality.UNCERTAIN)
], back
outputs = list_outputs.sync("rooms", client=client)
assert sorted((item.entity, item.value) for item in outputs.items) == [("attic", 31.5), ("kitchen", 21.5)], outputs

late = PushedReading(point="house/attic/temperature", value=30.5)
first, again = (push_readings.sync(client=client, body=late, idempotency_key="late-1") for _ in range(2))
assert (first.through, again.through, again.duplicate) == (first.through, first.through, True), (first, again)
newest = list_readings.sync(client=client, point="house/attic/temperature", order=ListReadingsOrder.NEWEST)
assert [item.value for item in newest.items] == [30.5, 31.5], newest

over = reset.sync("rooms", client=client, from_="beginning", dry_run=True)
assert isinstance(over, Reset), over
# Its body may be left out.
resumed = resume.sync("rooms", client=client)
assert isinstance(resumed, Resumed), resumed
