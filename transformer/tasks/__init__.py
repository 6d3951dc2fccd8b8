"""What a model is trained to do: one page per task with its text, loss, validation and use."""
