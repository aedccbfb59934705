"""One table of figures and floors."""

from collections.abc import Mapping
from typing import Any

__all__ = ["beside"]


def beside(figures: Mapping[str, Any], floors: Mapping[str, Any]) -> dict[str, Any]:
    """Each figure, and after it what trivial answers have: ``{"ari": .9, "ari: flood fill": 1.0}``.

    Args:
        figures: Numbers by name.
        floors: For each trivial answer its numbers, a mapping or a NamedTuple. Those that are not among the
            figures, and tables, are left out.
    """
    answers = {
        answer: numbers._asdict() if hasattr(numbers, "_asdict") else numbers
        for answer, numbers in floors.items()
    }
    table = {}
    for name, figure in figures.items():
        table[name] = figure
        for answer, numbers in answers.items():
            if name in numbers and not isinstance(numbers[name], list):
                table[f"{name}: {answer}"] = numbers[name]
    return table
