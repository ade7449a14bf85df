"""How the service is reached: route, proxies, TLS, message transports. No event loop in here."""
