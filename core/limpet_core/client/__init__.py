"""The client: a session across any number of connections, without IO."""
