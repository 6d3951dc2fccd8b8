"""Scores of translations, and tables of them."""
