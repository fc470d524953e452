"""Tensors are taken as the numbers that they hold."""
import pytest

from tcal_det.errors import InvalidTypeError
from tcal_det.evaluation.functional import (brier_score, calibration_error,
                                            classwise_calibration_error,
                                            detections_from_arrays,
                                            ground_truth_from_coco)

torch = pytest.importorskip('torch')

# Numbers that bfloat16 holds exactly.
CONFIDENCE, CORRECT = [.75, .75, .25], [1, 0, 0]
KINDS = [
    dict(dtype=torch.float64),
    dict(dtype=torch.float16),
    dict(dtype=torch.bfloat16),
    dict(dtype=torch.float32, requires_grad=True),
]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('correct_type', [torch.bool, torch.uint8])
def test_calibration_error_by_hand(kind, correct_type):
    error = calibration_error(
        torch.tensor(CONFIDENCE, **kind),
        torch.tensor(CORRECT, dtype=correct_type),
        num_bins=2)
    # 2/3 * |.75 - .5| + 1/3 * |.25 - 0|
    assert error.ece == pytest.approx(.25, abs=1e-12)


@pytest.mark.parametrize('kind', KINDS)
def test_probabilities_and_labels(kind):
    probs = torch.tensor([[.75, .25], [.5, .5]], **kind)
    labels = torch.tensor([0, 1])
    # 2 * .25**2 and 2 * .5**2, half of each
    assert brier_score(probs, labels) == pytest.approx(.3125, abs=1e-12)


@pytest.mark.parametrize('kind', KINDS)
def test_columns_of_detections(kind):
    ground_truth = ground_truth_from_coco(
        dict(
            images=[dict(id=7), dict(id=9)],
            categories=[dict(id=1, name='dog'),
                        dict(id=3, name='cat')],
            annotations=[]))
    found = detections_from_arrays(
        torch.tensor([9, 7]), torch.tensor([3, 1]),
        torch.tensor([[0, 0, 10, 10], [1, 2, 3, 4]], **kind),
        torch.tensor([.75, .5], **kind), ground_truth)
    assert found.image_index.tolist() == [1, 0]
    assert found.class_index.tolist() == [1, 0]
    assert found.boxes.tolist() == [[0, 0, 10, 10], [1, 2, 3, 4]]
    assert found.scores.tolist() == [.75, .5]


# Tensors of this device have no values, and cannot be copied to the CPU.
@pytest.mark.parametrize('confidence, correct, name', [
    (torch.ones(3, device='meta'), CORRECT, 'confidence'),
    (CONFIDENCE, torch.ones(3, device='meta'), 'correct'),
])
def test_tensors_without_numbers(confidence, correct, name):
    with pytest.raises(
            InvalidTypeError, match=f'`{name}` must be an array of numbers'):
        calibration_error(confidence, correct)


@pytest.mark.parametrize('labels',
                         [torch.zeros(2, device='meta'), [[0], [0, 1]]])
def test_labels_without_numbers(labels):
    with pytest.raises(
            InvalidTypeError, match='`labels` must be an array of whole'):
        classwise_calibration_error([[.5, .5], [.5, .5]], labels)
