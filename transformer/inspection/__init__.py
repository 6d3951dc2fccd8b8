"""Records what a model did with one sentence, and shows it as an HTML page or as text."""
