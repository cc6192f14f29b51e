"""What the exercises and the mistakes say, as it stands in exercises.txt and mistakes.txt beside this file."""

import re
from dataclasses import dataclass
from importlib import resources


def spelled(letters: list[str]) -> str:
    """Spell a shape, (N, H) or (H,); "" for a number."""
    return f"({', '.join(letters)}{',' * (len(letters) == 1)})" if letters else ""


@dataclass(frozen=True)
class Exercise:
    """An exercise's texts, as its stub prints them.

    ``given`` and ``returns`` map the names of arguments and results to the letters of their shapes, [] for a number.
    """

    name: str
    title: str
    given: dict[str, list[str]]
    returns: dict[str, list[str]]
    equation: tuple[str, ...]
    source: str
    hints: tuple[str, ...]

    def line(self, names: str) -> str:
        """The line of the equation for the first of these names, "dz_t|dz", that has one; else the one with tanh."""
        lines = {line.split(" =")[0].strip(): line for line in reversed(self.equation)}
        usual = next((line for line in self.equation if "tanh(" in line), self.equation[0])
        return next((lines[name] for name in names.split("|") if name in lines), usual)

    def __str__(self) -> str:
        """The stub: a Python file to begin with."""
        given, returns = (
            ", ".join(f"{name} {spelled(letters)}".strip() for name, letters in of.items())
            for of in (self.given, self.returns)
        )
        equation = "\n".join(f"        {line}" for line in self.equation)
        return (
            f'import numpy as np\n\n\ndef {self.name}({", ".join(self.given)}):\n    """{self.title}\n\n'
            f"    given    {given}\n    returns  {returns}\n\n{equation}\n\n    Source: {self.source}.\n"
            f'    """\n    # return {", ".join(self.returns)}\n'
        )


def _read(file: str) -> str:
    return (resources.files("minirnn.exercises") / file).read_text(encoding="utf-8")


def _exercise(text: str) -> Exercise:
    name, title, *lines = text.strip().splitlines()

    def all_of(word: str) -> list[str]:
        return [line.removeprefix(word).strip() for line in lines if line.startswith(word)]

    given, returns = (
        {name.strip(): v.split() for name, v in (part.split(":") for part in all_of(word)[0].split(","))}
        for word in ("given ", "returns ")
    )
    equation = tuple(line[4:] for line in lines if line.startswith("    "))
    return Exercise(name[:-1], title, given, returns, equation, all_of("source ")[0], tuple(all_of("hint ")))


EXERCISES = {e.name: e for e in map(_exercise, re.split(r"(?m)^\[", _read("exercises.txt"))[1:])}
"""All exercises by name, in the order in which to do them. ``print(EXERCISES["bptt"])`` shows its stub."""

MISTAKES = {
    name: (lines, text)
    for name, lines, text in (re.split(r" {2,}", line, maxsplit=2) for line in _read("mistakes.txt").splitlines())
}
"""The mistakes that are known, by name: where to look in the equation, and what it is that goes wrong."""


def described(mistake: str) -> tuple[str, str]:
    """What is said of a mistake as `steps` and `through_time` name it: with the place in brackets, "… (gate f)"."""
    name, _, place = mistake.partition(" (")
    where, text = MISTAKES[mistake if mistake in MISTAKES else name]
    gate = re.match(r"gate (.)", place)
    return (f"da_{gate[1]}|{where}" if gate else f"dc_t|{where}" if place == "tanh(c))" else where), text
