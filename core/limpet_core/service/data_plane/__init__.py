"""What application servers ask for: the operations of the REST API."""
