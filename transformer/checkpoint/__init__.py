"""Run directories and the checkpoints in them: written, read, hashed, averaged, found on the Hub.

A checkpoint is complete or absent: it is written to an unfinished folder, flushed, then renamed. Tensors are
safetensors and everything else is JSON, so reading one never runs code. `manifest.json` holds the format
version and the hash of every file, which are checked before anything is loaded.
"""
