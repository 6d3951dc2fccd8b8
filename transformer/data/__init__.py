"""Text, from files to batches (§5.1)."""
