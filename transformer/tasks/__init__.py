"""The tasks a model can be trained for: one file per task, with its data, loss, validation and scores."""
