import pytest

from tcal_det.errors import InvalidValueError
from tcal_det.visualization.teacher_scatter import teacher_scatter


def draw(names=('r50', 'r101'), recommended='r101'):
    return teacher_scatter(
        names, [0.40, 0.42], [(0.05, 0.04, 0.07), (0.02, 0.01, 0.03)],
        [0.02, 0.01], ['T = 1.600', 'T = 1.200'],
        recommended,
        title='Teachers')


def test_shows_figures_intervals_and_calibrators():
    figure = draw()
    axes, = figure.axes
    filled = [
        tuple(line.get_xydata()[0]) for line in axes.lines
        if len(line.get_xydata()) == 1
        and line.get_markerfacecolor() != 'white' and line.get_marker() in 'os'
    ]
    assert filled == [(0.05, 40.0), (0.02, 42.0)]
    hollow = [
        tuple(line.get_xydata()[0]) for line in axes.lines
        if line.get_markerfacecolor() == 'white'
    ]
    assert hollow == [(0.02, 40.0), (0.01, 42.0)]
    bars = [
        collection.get_segments()[0][:, 0].tolist()
        for collection in axes.collections
    ]
    assert bars == [[pytest.approx(0.04),
                     pytest.approx(0.07)],
                    [pytest.approx(0.01),
                     pytest.approx(0.03)]]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ['r50, T = 1.600', 'r101, T = 1.200 (recommended)']


@pytest.mark.parametrize('names', [(), ('r50', )])
def test_lengths(names):
    with pytest.raises(InvalidValueError, match='must have the same length'):
        draw(names)
