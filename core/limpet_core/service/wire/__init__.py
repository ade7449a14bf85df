"""Messages between the service and its clients: decoding and encoding."""
