"""From a trained model to text: search, sampling, scoring, alignment (§6.1)."""
