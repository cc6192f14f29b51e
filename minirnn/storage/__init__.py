"""Files of named arrays and JSON: written whole or not at all, and read without trust.

`container` is the format, `trees` what goes in and out of it, `writing` how a file reaches the disk.
"""

from minirnn.storage.container import PARAMETERS, CheckpointError, Contents, read, seal, write
from minirnn.storage.trees import as_plain, pack, unpack
from minirnn.storage.writing import remove_parts, reworded, write_whole

__all__ = [
    "PARAMETERS",
    "CheckpointError",
    "Contents",
    "as_plain",
    "pack",
    "read",
    "remove_parts",
    "reworded",
    "seal",
    "unpack",
    "write",
    "write_whole",
]
