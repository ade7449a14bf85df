"""How the service is reached: routes, proxies, TLS, transports of messages. Nothing here knows an event loop."""
