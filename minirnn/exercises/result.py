"""What a check has found, and how it shows itself."""

import html
from dataclasses import dataclass
from typing import NamedTuple


class Row(NamedTuple):
    """A result of the learner's function: its name and shape, whether it is right, and what there is to say of it."""

    name: str
    shape: str
    right: bool
    said: str


@dataclass(frozen=True)
class Result:
    """What `check` returns: ``passed``; ``mistake``, its name where it is a known one; ``message``, all in sentences.

    Mistakes that give the same numbers are told as "one or other", several at once as "one and other". ``rows`` has a
    line for each result of the function. In a notebook it is a coloured table; ``bool(result)`` is ``passed``.
    """

    exercise: str
    passed: bool
    mistake: str | None
    message: str
    rows: tuple[Row, ...] = ()

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        widths = [max((len(row[k]) for row in self.rows), default=0) for k in (0, 1)]  # type: ignore[arg-type]
        lines = [
            f"  {'ok' if r.right else '✗ ':2} {r.name:{widths[0]}}  {r.shape:{widths[1]}}  {r.said}" for r in self.rows
        ]
        return "\n".join([self.message, *(line.rstrip() for line in lines)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the message and a table of the results, green or red."""

        def cells(row: Row) -> str:
            colour = "#d9f2df" if row.right else "#fbdcd9"
            said = "".join(f"<td>{html.escape(text)}</td>" for text in (row.name, row.shape, row.said or "right"))
            return f'<tr style="background:{colour};color:#222">{said}</tr>'

        colour = "#1a7f37" if self.passed else "#b3261e"
        first, *others = html.escape(self.message).split("\n")
        text = "".join(f"<br><code>{line.strip()}</code>" if line[:1] == " " else f"<br>{line}" for line in others)
        table = f"<table>{''.join(map(cells, self.rows))}</table>" if self.rows else ""
        return f'<div><p><b style="color:{colour}">{first}</b>{text}</p>{table}</div>'
