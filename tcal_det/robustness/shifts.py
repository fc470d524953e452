"""Shifts: the changes of the images under which a detector is measured."""
from typing import Any, Dict, List, NamedTuple, Sequence


class Shift(NamedTuple):
    """A corruption or an attack of all images, or no change.

    Attributes:
        kind (str): Kind of shift: 'clean', 'corruption' or 'attack'.
        name (str): Name of the corruption or attack; 'clean' for unchanged
            images.
        strength (float): Severity of a corruption, or largest change of a
            pixel in [0, 255] by an attack; 0 for unchanged images.
    """
    kind: str
    name: str
    strength: float

    def __str__(self) -> str:
        if self.kind == 'clean':
            return self.name
        if self.kind == 'attack':
            return f'{self.name.upper()} {self.strength:g}/255'
        return f'{self.name} {self.strength:g}'

    def to_dict(self) -> Dict[str, Any]:
        """Fields of the shift as plain values."""
        return self._asdict()


CLEAN = Shift('clean', 'clean', 0.0)


def plan_shifts(corruptions: Sequence[str], severities: Sequence[int],
                attacks: Sequence[str],
                epsilons: Sequence[float]) -> List[Shift]:
    """List the shifts: clean images, each corruption, each attack.

    Args:
        corruptions (Sequence[str]): Names from ``CORRUPTIONS``; can be empty.
        severities (Sequence[int]): Severities of each corruption, in [1, 5].
        attacks (Sequence[str]): Names from ``ATTACKS``; can be empty.
        epsilons (Sequence[float]): Largest changes of a pixel by each attack,
            in [0, 255].

    Returns:
        list[Shift]: Shifts without repetition, ``CLEAN`` first.
    """
    shifts = [
        CLEAN, *(Shift('corruption', name, float(severity))
                 for name in corruptions for severity in severities),
        *(Shift('attack', name, float(epsilon)) for name in attacks
          for epsilon in epsilons)
    ]
    return list(dict.fromkeys(shifts))
