"""Connections, hubs, the registry of them, observers and snapshots."""
