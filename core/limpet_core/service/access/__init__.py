"""Access: tokens, audiences and permissions."""
