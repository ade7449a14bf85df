"""What the clients have in common: state, callbacks, buffers, requests. Nothing here knows an event loop."""
