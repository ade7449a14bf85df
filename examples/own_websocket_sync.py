"""The blocking client over another WebSocket library: `connect=` opens the transport, in its own thread.

python examples/own_websocket_sync.py URL
"""

import sys

from limpet.connect.websockets import blocking_connector
from limpet.sync import Client

open_transport = blocking_connector()


def main(url: str) -> None:
    with Client(url, connect=open_transport) as client, client.subscribe("lobby") as messages:
        client.send_to_group("lobby", "hello from other threads")
        for message in messages:
            print(message.data)
            break


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
