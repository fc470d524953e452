import json

import numpy as np
import pytest

from tcal_det.fileio import plain_json
from tcal_det.visualization.robustness_figure import robustness_figure


def figure_of(value, spread=0.02):
    return dict(value=value, low=value - spread, high=value + spread)


def row(mean_ap, error, **keys):
    return dict(
        keys,
        mAP=figure_of(mean_ap),
        AP50=figure_of(mean_ap),
        d_ece=figure_of(error),
        laece_0=figure_of(2 * error))


def content(corruptions=True, attacks=True):
    """As RobustnessSummary.to_dict() gives it."""
    cells = [row(0.4, 0.05, kind='clean', name='clean', strength=0.0)]
    if corruptions:
        cells += [
            row(0.3, 0.1, kind='corruption', name='fog', strength=1.0),
            row(0.1, 0.2, kind='corruption', name='fog', strength=5.0),
            row(0.2, 0.1, kind='corruption', name='glass_blur', strength=1.0),
            row(0.0,
                np.nan,
                kind='corruption',
                name='glass_blur',
                strength=5.0)
        ]
    if attacks:
        cells += [
            row(0.2, 0.3, kind='attack', name='pgd', strength=8.0),
            row(0.4, 0.05, kind='attack', name='pgd', strength=0.0),
            row(0.3, 0.2, kind='attack', name='pgd', strength=2.0),
        ]
    made = dict(clean=row(0.4, 0.05), cells=cells)
    if corruptions:
        made['by_severity'] = {1: row(0.25, 0.1), 5: row(0.05, np.nan)}
    return made


def labelled(axes):
    return {
        line.get_label(): line.get_xydata().tolist()
        for line in axes.lines if not line.get_label().startswith('_')
    }


def test_lines_over_severity_and_epsilon():
    axes = robustness_figure(content(), 'Robustness').axes
    # A column for each figure, with a row each for severities, attacks and
    # cells.
    assert len(axes) == 9
    severities, attacks, _ = axes[:3]
    assert severities.get_title() == 'mAP x 100, higher is better'
    lines = labelled(severities)
    assert lines['mean, 95 % interval'] == [[0, 40], [1, 25], [5, 5]]
    assert lines['each corruption'] == [[0, 40], [1, 30], [5, 10]]
    # The clean point once, and the others in order.
    assert labelled(attacks) == {
        'PGD, 95 % interval': [[0, 40], [2, pytest.approx(30)], [8, 20]]
    }
    assert axes[3].get_title() == 'D-ECE x 100, lower is better'
    assert labelled(axes[4])['PGD, 95 % interval'] == [[0, 5], [2, 20],
                                                       [8, 30]]


def test_numbers_of_every_cell():
    cells = robustness_figure(content()).axes[5]
    texts = {
        tuple(map(int, text.get_position())): text.get_text()
        for text in cells.texts
    }
    # Clean, severity 1, severity 5; a row for each corruption.
    assert texts == {
        (0, 0): '5.0',
        (1, 0): '10.0',
        (2, 0): '20.0',
        (0, 1): '5.0',
        (1, 1): '10.0',
        (2, 1): 'n/a'
    }
    assert [label.get_text()
            for label in cells.get_xticklabels()] == ['clean', '1', '5']
    names = robustness_figure(content()).axes[2].get_yticklabels()
    assert [label.get_text() for label in names] == ['fog', 'glass blur']


def test_darker_is_worse():
    """Of mAP the small values, of errors the large ones."""
    axes = robustness_figure(content()).axes
    for cells, is_error in ((axes[2], False), (axes[5], True)):
        image, = cells.images
        small, large = (
            sum(image.cmap(image.norm(value))[:3]) for value in (1, 19))
        assert (small > large) == is_error


@pytest.mark.parametrize('corruptions, attacks, count', [(True, False, 6),
                                                         (False, True, 3),
                                                         (False, False, 3)])
def test_rows_of_what_was_measured(corruptions, attacks, count):
    figure = robustness_figure(content(corruptions, attacks))
    assert len(figure.axes) == count
    figure.canvas.draw()


def test_json_file_gives_the_same_picture():
    """Severities are texts there, and NaN is null."""
    made = content()
    read = json.loads(json.dumps(plain_json(made)))
    for one, other in zip(
            robustness_figure(made).axes,
            robustness_figure(read).axes):
        assert [text.get_text() for text in one.texts
                ] == [text.get_text() for text in other.texts]
        for line, same in zip(one.lines, other.lines):
            np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())


def test_without_intervals():
    made = content(corruptions=False)
    for cell in (made['clean'], *made['cells']):
        for key in ('mAP', 'd_ece', 'laece_0'):
            cell[key].update(low=None, high=None)
    assert set(labelled(robustness_figure(made).axes[0])) == {'PGD'}
