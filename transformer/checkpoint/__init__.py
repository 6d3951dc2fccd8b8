"""Run folders and their checkpoints: writing, reading, averaging, and downloading from the Hub.

Checkpoints are written atomically: to a temporary folder, which is flushed and then renamed. Tensors are
stored as safetensors and everything else as JSON, so loading a checkpoint never runs code. `manifest.json`
holds the format version and the hash of every file, which are checked before anything is loaded.
"""
