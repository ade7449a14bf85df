"""The checks of the contract, by topic."""
