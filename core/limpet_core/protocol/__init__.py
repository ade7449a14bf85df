"""What both ends of a connection agree on: names, rules, messages and how they are encoded."""
