"""Publishes messages by amqtt's client. Arguments: the broker's URL, and the file of an authority or nothing. Each line
of stdin is a message: {"topic", "payload" as base64, "qos", "retain"}. Each is acknowledged before the next."""

import asyncio
import base64
import json
import sys

from amqtt.client import MQTTClient


async def main():
    client = MQTTClient(client_id="publisher", config={"auto_reconnect": False, "check_hostname": False})
    await client.connect(sys.argv[1], cafile=sys.argv[2] or None)
    for line in sys.stdin:
        message = json.loads(line)
        payload = base64.b64decode(message["payload"])
        await client.publish(message["topic"], payload, qos=message["qos"], retain=message["retain"])
    await client.disconnect()


asyncio.run(main())
