"""The driver of trio and anyio: structured concurrency over a backend."""
