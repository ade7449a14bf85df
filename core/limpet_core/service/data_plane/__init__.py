"""The data plane: the operations of the REST API and their parameters."""
