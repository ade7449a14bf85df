"""Event handlers: which there are, and the HTTP calls to them."""
