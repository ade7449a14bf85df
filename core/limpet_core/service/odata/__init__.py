"""OData filters: which connections a message or an operation is for."""
