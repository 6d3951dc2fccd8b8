"""Checks on the user's machine that compare our models with implementations that share no code with ours."""
