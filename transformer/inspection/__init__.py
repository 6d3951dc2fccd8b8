"""Records how a model processed one sentence, and shows the record as an HTML page or as text."""
