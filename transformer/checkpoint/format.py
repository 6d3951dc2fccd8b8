"""The files of a checkpoint."""

FORMAT_VERSION = 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint or a run's folder that cannot be used: one line that says where, what and why."""
