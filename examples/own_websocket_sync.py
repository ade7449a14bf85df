"""The blocking client over another WebSocket library: `connect=` opens the transport, in its own thread.

python examples/own_websocket_sync.py URL
"""

import sys

from limpet.connect.websockets import blocking_connector
from limpet.sync import Client

if len(sys.argv) != 2:
    sys.exit(__doc__)
url = sys.argv[1]

with Client(url, connect=blocking_connector()) as client, client.subscribe("lobby") as messages:
    client.send_to_group("lobby", "hello from other threads")
    for message in messages:
        print(message.data)
        break
