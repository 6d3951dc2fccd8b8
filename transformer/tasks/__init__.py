"""What a model is trained to do: each task brings its text, batches, loss and validation to the one loop."""
