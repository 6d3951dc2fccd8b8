"""Text to token ids and back (§5.1): one protocol, and a module for each kind of vocabulary."""
