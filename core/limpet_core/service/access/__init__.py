"""Who may do what: tokens, audiences, permissions."""
