"""The service in memory under a virtual clock."""
