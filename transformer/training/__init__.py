"""Training (§5.2–5.4): from batches to a trained model."""
