"""Expected values that were computed outside this package."""
import json
from pathlib import Path
from typing import Any, Tuple

import numpy as np

from tcal_det.evaluation.functional import (Detections, GroundTruth,
                                            detections_from_coco,
                                            ground_truth_from_coco)

_FOLDER = Path(__file__).resolve().parents[2] / 'data' / 'golden'


def load_golden(name: str) -> Any:
    with open(_FOLDER / f'{name}.json') as file:
        return json.load(file)


def load_scene(name: str) -> Tuple[GroundTruth, Detections]:
    ground_truth = ground_truth_from_coco(load_golden(f'{name}_gt'))
    return ground_truth, detections_from_coco(
        load_golden(f'{name}_dt'), ground_truth)


def softmax(logits: Any) -> np.ndarray:
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def nan_for_null(value: Any) -> float:
    return float('nan') if value is None else value
