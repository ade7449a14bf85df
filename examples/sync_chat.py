"""The same chat without async: a callback prints, the main thread reads lines.

python examples/sync_chat.py URL     (type lines; Ctrl-D ends)
"""

import sys

from limpet import GroupMessage
from limpet.sync import Client

if len(sys.argv) != 2:
    sys.exit(__doc__)

with Client(sys.argv[1]) as client:

    @client.on(GroupMessage)
    def show(message: GroupMessage) -> None:
        print(f"{message.from_user_id or 'somebody'}: {message.data}", flush=True)

    client.join_group("lobby")
    for line in sys.stdin:
        client.send_to_group("lobby", line.rstrip())
