"""What a model did with one sentence: as plain data, as one page, and as text."""
