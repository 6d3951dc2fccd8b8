"""From text files to batches (§5.1)."""
