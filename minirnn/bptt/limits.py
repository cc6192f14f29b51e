"""What is refused because it would not fit into memory."""

LARGEST = 1 << 30
"""Bytes that one array of `minirnn.bptt` may take: 1 GiB."""


def fits(size: int, what: str, hint: str) -> None:
    """Refuse what takes more than `LARGEST` bytes.

    Raises
    ------
    MemoryError
        Naming ``what``, the bytes it would take, those there may be, and the ``hint``.
    """
    if size > LARGEST:
        raise MemoryError(f"{what} would take {size:,} bytes, more than {LARGEST:,}: {hint}")
