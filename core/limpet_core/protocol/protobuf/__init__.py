"""The protobuf subprotocols. The modules in here need the package ``protobuf``: import them only where it is used."""
