"""What clients and the service say to each other, from the service's side."""
