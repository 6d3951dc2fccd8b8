"""Parity checks on the user's machine against implementations that share no code with this package."""
