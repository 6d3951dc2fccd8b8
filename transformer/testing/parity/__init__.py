"""Parity on the user's machine: this package beside implementations that share no code with it."""
