"""Compares our models, on the user's machine, with implementations that share no code with ours."""
