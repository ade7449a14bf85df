"""The connections of the service: what it keeps of each, by hub and by group."""
