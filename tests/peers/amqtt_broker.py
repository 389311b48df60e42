"""amqtt as a broker, until stdin ends. The first argument is its configuration as JSON."""

import asyncio
import json
import sys

from amqtt.broker import Broker


async def main():
    broker = Broker(json.loads(sys.argv[1]))
    await broker.start()
    print("listening", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
