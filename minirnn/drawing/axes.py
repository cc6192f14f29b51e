"""matplotlib, for those who have it: the extra ``plot``."""

from typing import Any


def matplotlib_for(caller: str) -> Any:
    """Return the package, with its figures; ImportError, saying what to install, where it is not installed."""
    try:
        import matplotlib.figure  # here, not above: it is no need of the package
    except ImportError:
        raise ImportError(
            f'{caller} needs matplotlib, which is not installed: try pip install "minirnn[plot]"'
        ) from None
    return matplotlib


def axes_for(caller: str, ax: Any = None) -> Any:
    """Return the Axes given, or those of a new figure."""
    if ax is not None:
        return ax
    return matplotlib_for(f"{caller}:").figure.Figure(figsize=(6.4, 4.0), layout="constrained").subplots()
