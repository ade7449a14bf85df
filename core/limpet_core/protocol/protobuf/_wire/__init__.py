"""Generated code: `make proto` writes it from ``webpubsub.proto``."""
