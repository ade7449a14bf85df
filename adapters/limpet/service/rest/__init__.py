"""The data plane over HTTP: the REST API."""
