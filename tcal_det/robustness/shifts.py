"""What is done to the images, one after the other."""
from typing import Any, Dict, List, NamedTuple, Sequence


class Shift(NamedTuple):
    """One way in which images differ from those of training.

    Attributes:
        kind (str): 'clean', 'corruption' or 'attack'.
        name (str): Corruption or attack; 'clean' for images as they are.
        strength (float): Severity of a corruption, or the largest change of
            a pixel by an attack, of 255; 0 for images as they are.
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
        """Plain values."""
        return self._asdict()


CLEAN = Shift('clean', 'clean', 0.0)


def plan_shifts(corruptions: Sequence[str], severities: Sequence[int],
                attacks: Sequence[str],
                epsilons: Sequence[float]) -> List[Shift]:
    """Images as they are, then each corruption, then each attack.

    Args:
        corruptions (Sequence[str]): Names of ``CORRUPTIONS``; may be empty.
        severities (Sequence[int]): In [1, 5].
        attacks (Sequence[str]): Names of ``ATTACKS``; may be empty.
        epsilons (Sequence[float]): In [0, 255].

    Returns:
        list[Shift]: ``CLEAN`` first, each once.
    """
    shifts = [
        CLEAN, *(Shift('corruption', name, float(severity))
                 for name in corruptions for severity in severities),
        *(Shift('attack', name, float(epsilon)) for name in attacks
          for epsilon in epsilons)
    ]
    return list(dict.fromkeys(shifts))
