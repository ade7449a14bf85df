"""Event handlers: their settings, the HTTP calls to them, and CloudEvents."""
