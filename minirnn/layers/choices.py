"""The names that the settings of layers take, each set spelled once, for type checkers and at run time."""

from typing import Literal, TypeAlias, get_args

Backend: TypeAlias = Literal["fused", "graph"]
Preset: TypeAlias = Literal["irnn"]
Readout: TypeAlias = Literal["all", "last"]

BACKENDS: tuple[Backend, ...] = get_args(Backend)
READOUTS: tuple[Readout, ...] = get_args(Readout)
