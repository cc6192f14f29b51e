"""Checkpoints: a run that was stopped, killed or lost its machine goes on to the same bits.

`save_checkpoint` and `load_checkpoint` are one file, `CheckpointDirectory` a run's last K and its best, with a lock.
The weights alone: ``module.save(path)``, ``module.load(path)``.
"""

from minirnn.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from minirnn.checkpoints.directory import CheckpointDirectory
from minirnn.checkpoints.locking import DirectoryLockedError
from minirnn.storage import CheckpointError

__all__ = [
    "Checkpoint",
    "CheckpointDirectory",
    "CheckpointError",
    "DirectoryLockedError",
    "load_checkpoint",
    "save_checkpoint",
]
