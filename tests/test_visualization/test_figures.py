import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional.calibration_error import calibration_error
from tcal_det.visualization import (draw_reliability, reliability_comparison,
                                    reliability_diagram, save_figure,
                                    temperature_sweep)


def table(seed=0, num_samples=300, power=2.0):
    """Over-confident above one half, and with empty bins."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.25, 0.9, num_samples)
    accuracy = np.where(confidence < 0.5, 0.6, confidence**power)
    return calibration_error(confidence,
                             rng.uniform(size=num_samples) < accuracy).bins


def bars(axes, label):
    """(left, width, bottom, height) of the bars with a label, as arrays."""
    container, = (
        bars for bars in axes.containers if bars.get_label() == label)
    return np.array([(bar.get_x(), bar.get_width(), bar.get_y(),
                      bar.get_height()) for bar in container]).reshape(-1, 4).T


def png_size(content):
    """Width and height of a PNG, from its header (RFC 2083, 4.1.1)."""
    assert content[:8] == b'\x89PNG\r\n\x1a\n' and content[12:16] == b'IHDR'
    return struct.unpack('>II', content[16:24])


def test_a_notebook_shows_a_picture():
    figure = reliability_diagram(table())
    width, height = figure.get_size_inches() * figure.dpi
    assert png_size(figure._repr_png_()) == (int(width), int(height))
    display = pytest.importorskip('IPython.core.formatters')
    shown, _ = display.DisplayFormatter().format(figure)
    assert png_size(shown['image/png']) == (int(width), int(height))


def test_diagram_in_a_figure_of_the_user():
    bins = table()
    left, right = Figure().subplots(1, 2)
    draw_reliability(right, bins, target_name='Precision', error_name='D-ECE')
    assert not left.containers and right.get_legend() is None
    assert (right.get_xlabel(), right.get_ylabel()) == ('Confidence',
                                                        'Precision')
    alone = reliability_diagram(bins).axes[0]
    for label in ('measured', 'over-confident', 'under-confident'):
        assert (bars(right, label) == bars(alone, label)).all()
    assert right.get_title(
        loc='left').startswith(f'D-ECE {bins.summarize().error:.4f} = ')


def test_only_the_outer_axes_of_a_comparison_are_labelled():
    axes = reliability_comparison({'a': table(0), 'b': table(1)}).axes
    assert [one.get_ylabel()
            for one in axes] == ['Accuracy', '', 'Samples (log)', '']
    assert [one.get_xlabel() for one in axes] == ['', '', *['Confidence'] * 2]


class TestReliabilityDiagram:

    def test_measured_bars_are_the_table(self):
        bins = table()
        diagram, histogram = reliability_diagram(bins).axes
        filled = bins.count > 0
        assert not filled.all()
        left, width, bottom, height = bars(diagram, 'measured')
        assert left == pytest.approx(bins.edges[:-1][filled])
        assert width == pytest.approx(np.diff(bins.edges)[filled])
        assert (bottom == 0).all()
        assert height == pytest.approx(bins.mean_target[filled])

    def test_counts_are_the_table_and_empty_bins_have_no_bar(self):
        bins = table()
        histogram = reliability_diagram(bins).axes[1]
        left, _, _, height = bars(histogram, 'samples')
        filled = bins.count > 0
        assert left == pytest.approx(bins.edges[:-1][filled])
        assert (height == bins.count[filled]).all()
        assert histogram.get_yscale() == 'log'
        assert histogram.get_ylim()[0] < 1 < bins.count.max() < (
            histogram.get_ylim()[1])

    def test_gaps_reach_from_target_to_confidence_by_sign(self):
        bins = table()
        diagram = reliability_diagram(bins).axes[0]
        seen = 0
        for name, sign in (('over-confident', 1), ('under-confident', -1)):
            left, _, bottom, height = bars(diagram, name)
            chosen = np.flatnonzero(sign * np.nan_to_num(bins.gap) > 0)
            assert left == pytest.approx(bins.edges[chosen])
            # A patch of negative height keeps its bottom.
            assert bottom == pytest.approx(bins.mean_target[chosen])
            assert bottom + height == pytest.approx(
                bins.mean_confidence[chosen])
            assert len(chosen) > 0
            seen += len(chosen)
        assert seen == (bins.count > 0).sum()

    def test_signs_differ_in_hatching_not_in_colour_alone(self):
        diagram = reliability_diagram(table()).axes[0]
        hatches = {
            container.get_label(): container[0].get_hatch()
            for container in diagram.containers
        }
        assert len(set(hatches.values())) == 3

    def test_heading_is_computed_from_the_table(self):
        bins = table()
        heading = reliability_diagram(bins).axes[0].get_title(loc='left')
        gaps = bins.summarize()
        assert f'ECE {gaps.error:.4f} = {gaps.over:.4f} over + ' in heading
        assert f'{gaps.under:.4f} under' in heading
        assert '300 samples' in heading
        confidence = np.nansum(bins.count * bins.mean_confidence) / 300
        assert f'confidence {confidence:.3f}' in heading

    def test_title_and_target_name(self):
        figure = reliability_diagram(table(), 'Teacher', 'Precision')
        diagram = figure.axes[0]
        assert 'Teacher' in [text.get_text() for text in diagram.texts]
        assert diagram.get_ylabel() == 'Precision'
        assert 'precision' in diagram.get_title(loc='left')
        legend, = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [
            'precision', 'over-confident', 'under-confident', 'ideal'
        ]

    def test_empty_table(self):
        with pytest.warns(UserWarning):
            bins = calibration_error([], []).bins
        figure = reliability_diagram(bins)
        assert 'ECE undefined' in figure.axes[0].get_title(loc='left')
        assert bars(figure.axes[0], 'measured').size == 0
        figure.canvas.draw()

    def test_the_table_is_not_changed(self):
        bins = table()
        before = [part.copy() for part in (bins.count, bins.mean_target)]
        reliability_diagram(bins).canvas.draw()
        assert (bins.count == before[0]).all()
        assert np.array_equal(bins.mean_target, before[1], equal_nan=True)


class TestReliabilityComparison:

    def test_each_table_in_its_column_on_shared_axes(self):
        tables = dict(before=table(), after=table(1, 1000, power=1.2))
        figure = reliability_comparison(tables, 'Val')
        diagrams, histograms = figure.axes[:2], figure.axes[2:]
        for diagram, histogram, (name, bins) in zip(diagrams, histograms,
                                                    tables.items()):
            assert name in [text.get_text() for text in diagram.texts]
            assert bars(diagram, 'measured')[3] == pytest.approx(
                bins.mean_target[bins.count > 0])
            assert bars(histogram, 'samples')[3].sum() == bins.num_samples
        assert diagrams[0].get_ylim() == diagrams[1].get_ylim() == (0, 1)
        assert histograms[0].get_ylim() == histograms[1].get_ylim()
        assert figure._suptitle.get_text() == 'Val'

    def test_no_table(self):
        with pytest.raises(InvalidValueError, match='at least one bin table'):
            reliability_comparison({})


class TestTemperatureSweep:
    temperatures = np.linspace(0.5, 5, 10)
    ece = (temperatures - 2)**2 / 20
    nll = 1 + (temperatures - 2.5)**2

    def test_curves_and_their_smallest_values(self):
        figure = temperature_sweep(self.temperatures, self.ece, self.nll)
        for axes, values, best in zip(figure.axes, (self.ece, self.nll),
                                      (2.0, 2.5)):
            curve, dot = axes.lines[:2]
            assert (curve.get_xdata() == self.temperatures).all()
            assert (curve.get_ydata() == values).all()
            assert dot.get_xdata() == [best]
            assert dot.get_ydata() == [values.min()]

    def test_marks(self):
        figure = temperature_sweep(
            self.temperatures, self.ece, self.nll, fitted=2.25, softened=2.7)
        for axes in figure.axes:
            marks = {line.get_label(): line for line in axes.lines[2:]}
            assert {
                label: line.get_xdata()[0]
                for label, line in marks.items()
            } == {
                'not calibrated, T = 1': 1,
                'fitted, T = 2.25': 2.25,
                'softened, T = 2.7': 2.7
            }
            assert len({line.get_linestyle() for line in marks.values()}) == 3

    def test_only_what_is_given_is_marked(self):
        figure = temperature_sweep(self.temperatures, self.ece, self.nll)
        assert len(figure.axes[0].lines) == 3
        legend, = figure.legends
        assert len(legend.get_texts()) == 2

    def test_lengths_differ(self):
        with pytest.raises(InvalidValueError, match='10, 9 and 10'):
            temperature_sweep(self.temperatures, self.ece[1:], self.nll)


class TestSaveFigure:

    @pytest.mark.parametrize('suffix, magic', [('png', b'\x89PNG'),
                                               ('pdf', b'%PDF'),
                                               ('svg', b'<?xml')])
    def test_formats(self, tmp_path, suffix, magic):
        path = tmp_path / 'plots' / f'figure.{suffix}'
        save_figure(reliability_diagram(table()), str(path))
        assert path.read_bytes().startswith(magic)
        assert os.listdir(path.parent) == [path.name]

    def test_unknown_format(self, tmp_path):
        with pytest.raises(InvalidValueError, match=r"'\.png'.*figure\.doc"):
            save_figure(reliability_diagram(table()), 'figure.doc')

    def test_an_interrupted_write_leaves_the_old_file_whole(
            self, tmp_path, monkeypatch):
        path = tmp_path / 'figure.png'
        path.write_bytes(b'old')

        def fail(self, path, **kwargs):
            with open(path, 'wb') as file:
                file.write(b'half')
            raise KeyboardInterrupt

        monkeypatch.setattr(Figure, 'savefig', fail)
        with pytest.raises(KeyboardInterrupt):
            save_figure(reliability_diagram(table()), str(path))
        assert path.read_bytes() == b'old'
        assert os.listdir(tmp_path) == ['figure.png']


def test_matplotlib_is_imported_only_when_drawing():
    code = ('import sys, tcal_det.visualization; '
            "assert 'matplotlib' not in sys.modules; "
            "assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, '-c', code], check=True)


def test_drawing_needs_no_display_and_leaves_pyplot_alone(tmp_path):
    code = ('import sys; from tcal_det.visualization import *; '
            "save_figure(temperature_sweep([1], [.1], [1.]), sys.argv[1]); "
            "assert 'matplotlib.pyplot' not in sys.modules")
    environment = {
        key: value
        for key, value in os.environ.items() if key != 'DISPLAY'
    }
    subprocess.run([sys.executable, '-c', code,
                    str(tmp_path / 'sweep.png')],
                   check=True,
                   env=dict(environment, MPLBACKEND='TkAgg'))
