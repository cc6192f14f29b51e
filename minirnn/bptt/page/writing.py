"""Writing a file whole or not at all. Checked by tests/bptt/test_page.py."""

import contextlib
import os
import pathlib
from typing import Any


def write(text: str, path: Any, caller: str) -> pathlib.Path:
    """Write a text to a file, first beside it; return its path.

    Raises
    ------
    OSError
        When the path cannot be written; then nothing is left, and a file that was there is what it was.
    """
    target = pathlib.Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(beside, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(beside, target)
    except OSError as error:
        raise type(error)(
            f"{caller}: cannot write {str(target)!r}: {error.strerror or error}: choose a file in a folder that is "
            "there and may be written to"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
    return target
