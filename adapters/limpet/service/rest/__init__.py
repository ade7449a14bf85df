"""The REST data plane over HTTP."""
