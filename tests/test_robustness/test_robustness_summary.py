"""mPC, rPC and their counterparts, and the tables of them."""
import json

import numpy as np
import pytest

from tcal_det.errors import InvalidValueError
from tcal_det.fileio import write_json_atomically
from tcal_det.robustness.cell_file import CellFile
from tcal_det.robustness.cells import FIGURES, Cell, Figures, mean_of, ratio_of
from tcal_det.robustness.shifts import CLEAN, Shift, plan_shifts
from tcal_det.robustness.summary import RobustnessSummary
from tcal_det.robustness.table import overview_table, robustness_tables


def make_cell(shift, mean_ap, error, num_resamples=0, spread=0.0):
    """AP50 is twice mAP, LaECE_0 twice D-ECE."""
    values = dict(
        mAP=mean_ap, AP50=2 * mean_ap, d_ece=error, laece_0=2 * error)
    around = np.linspace(-spread, spread, num_resamples)
    return Cell(
        shift,
        Figures(values, {
            key: value + around
            for key, value in values.items()
        }), 10)


def corruption(name, severity):
    return Shift('corruption', name, severity)


def make_cells(**options):
    """Clean, two corruptions at two severities, and an attack."""
    return [
        make_cell(CLEAN, 0.40, 0.05, **options),
        make_cell(corruption('fog', 1), 0.30, 0.10, **options),
        make_cell(corruption('fog', 5), 0.10, 0.20, **options),
        make_cell(corruption('frost', 1), 0.24, 0.06, **options),
        make_cell(corruption('frost', 5), 0.00, 0.40, **options),
        make_cell(Shift('attack', 'pgd', 8.0), 0.02, 0.50, **options)
    ]


class TestPlan:

    def test_order(self):
        assert [
            str(one)
            for one in plan_shifts(['fog', 'frost'], [1, 5], ['pgd'], [0.5, 8])
        ] == [
            'clean', 'fog 1', 'fog 5', 'frost 1', 'frost 5', 'PGD 0.5/255',
            'PGD 8/255'
        ]

    def test_each_once(self):
        shifts = plan_shifts(['fog', 'fog'], [1, 1], ['pgd'], [2, 2.0])
        assert len(shifts) == 3

    def test_nothing_but_clean(self):
        assert plan_shifts([], [1], [], [2]) == [CLEAN]


class TestSummary:

    def test_means_by_hand(self):
        summary = RobustnessSummary.from_cells(make_cells())
        # (0.30 + 0.10 + 0.24 + 0.00) / 4, and 0.16 / 0.40.
        assert summary.mean.values['mAP'] == pytest.approx(0.16)
        assert summary.mean.values['AP50'] == pytest.approx(0.32)
        assert summary.relative.values == pytest.approx(
            dict(mAP=0.4, AP50=0.4))
        # (0.10 + 0.20 + 0.06 + 0.40) / 4.
        assert summary.mean.values['d_ece'] == pytest.approx(0.19)
        assert summary.mean.values['laece_0'] == pytest.approx(0.38)
        assert {
            severity: figures.values['mAP']
            for severity, figures in summary.by_severity.items()
        } == pytest.approx({
            1: 0.27,
            5: 0.05
        })
        assert {
            name: figures.values['d_ece']
            for name, figures in summary.by_corruption.items()
        } == pytest.approx(dict(fog=0.15, frost=0.23))

    def test_the_attack_is_in_no_mean(self):
        cells = make_cells()
        assert (RobustnessSummary.from_cells(cells[:-1]).mean.values ==
                RobustnessSummary.from_cells(cells).mean.values)

    def test_intervals_of_means_are_those_of_the_same_resamples(self):
        """The mean of mirrored resamples is always the same."""
        cells = make_cells(num_resamples=81, spread=0.04)
        interval = RobustnessSummary.from_cells(
            cells).mean.intervals()['d_ece']
        # Quantiles of an even grid from -0.04 to 0.04.
        assert (interval.low, interval.high) == pytest.approx(
            (0.19 - 0.038, 0.19 + 0.038))
        first, second = cells[1], cells[2]
        mirrored = Figures(second.figures.values, {
            key: values[::-1]
            for key, values in second.figures.resamples.items()
        })
        still = mean_of([first.figures, mirrored]).intervals()['mAP']
        assert (still.low, still.high) == pytest.approx((0.2, 0.2))

    def test_ratio_of_resamples(self):
        half, whole = (
            Figures(dict(mAP=value), dict(mAP=np.array([value, 3 * value])))
            for value in (0.1, 0.2))
        assert ratio_of(half,
                        whole).resamples['mAP'] == pytest.approx([0.5, 0.5])

    def test_nothing_is_relative_to_nothing(self):
        cells = make_cells()
        cells[0] = make_cell(CLEAN, 0.0, 0.0)
        assert np.isnan(
            RobustnessSummary.from_cells(cells).relative.values['mAP'])

    def test_undefined_cell_leaves_its_mean_undefined(self):
        cells = make_cells()
        cells[4] = make_cell(cells[4].shift, 0.0, np.nan)
        summary = RobustnessSummary.from_cells(cells)
        assert np.isnan(summary.mean.values['d_ece'])
        assert summary.mean.values['mAP'] == pytest.approx(0.16)
        assert 'n/a' in overview_table(summary)

    def test_without_corruptions(self):
        summary = RobustnessSummary.from_cells(
            [make_cells()[0], make_cells()[-1]])
        assert summary.mean is None and summary.relative is None
        assert set(summary.to_dict()) == {'clean', 'confidence_level', 'cells'}
        assert 'mPC' not in robustness_tables(summary)

    def test_plain_numbers(self):
        content = RobustnessSummary.from_cells(
            make_cells(num_resamples=81, spread=0.04)).to_dict()
        assert content['mPC']['mAP']['value'] == pytest.approx(0.16)
        assert content['rPC']['mAP']['value'] == pytest.approx(0.4)
        assert set(content['rPC']) == {'mAP', 'AP50'}
        assert content['difference_to_clean']['d_ece'] == pytest.approx(
            dict(value=0.14, low=0.14, high=0.14))
        assert content['cells'][2]['name'] == 'fog'
        assert content['cells'][2]['strength'] == 5
        assert content['cells'][2]['d_ece']['value'] == 0.2
        json.dumps(content)


class TestTable:

    def test_overview(self):
        lines = overview_table(RobustnessSummary.from_cells(
            make_cells())).splitlines()
        rows = {
            cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
            for cells in (line.split('|') for line in lines)
        }
        assert rows['images'] == ['mAP', 'AP50', 'D-ECE', 'LaECE_0']
        assert rows['clean'] == ['40.0', '80.0', '5.0', '10.0']
        assert rows['corrupted (mPC)'] == ['16.0', '32.0', '19.0', '38.0']
        assert rows['corrupted - clean'] == [
            '-24.0', '-48.0', '+14.0', '+28.0'
        ]
        assert rows['corrupted / clean (rPC)'] == ['40.0', '40.0', '', '']
        assert rows['severity 5'] == ['5.0', '10.0', '30.0', '60.0']
        assert rows['PGD 8/255'] == ['2.0', '4.0', '50.0', '100.0']

    def test_every_cell_with_its_interval(self):
        text = robustness_tables(
            RobustnessSummary.from_cells(
                make_cells(num_resamples=81, spread=0.04)))
        row, = [line for line in text.splitlines() if '| fog 5' in line]
        assert '| 10.0 [6.2, 13.8]' in row
        # Of make_cell's.
        assert row.split('|')[-2].strip() == '10'
        assert '2 corruptions at the severities 1, 5' in text
        assert '95% intervals' in text


class TestCellFile:
    SETTINGS = dict(weights='abc', seed=0)

    @pytest.fixture
    def path(self, tmp_path):
        return str(tmp_path / 'robust.cells.json')

    def test_what_was_measured_is_there_again(self, path):
        cells = make_cells(num_resamples=3, spread=0.1)
        cells[1] = make_cell(cells[1].shift, 0.1 + 0.2, np.nan, 3)
        cell_file = CellFile(path, self.SETTINGS)
        assert cell_file.cells == {}
        for cell in cells:
            cell_file.add(cell)
        again = CellFile(path, self.SETTINGS).cells
        assert list(again) == [cell.shift for cell in cells]
        for cell in cells:
            other = again[cell.shift]
            assert other.num_detections == cell.num_detections
            for key in FIGURES:
                # Bit for bit, NaN included.
                np.testing.assert_array_equal(other.figures.values[key],
                                              cell.figures.values[key])
                np.testing.assert_array_equal(other.figures.resamples[key],
                                              cell.figures.resamples[key])

    def test_other_settings_are_refused(self, path):
        CellFile(path, self.SETTINGS).add(make_cells()[0])
        with pytest.raises(
                InvalidValueError,
                match='measured with another seed: remove it'):
            CellFile(path, dict(self.SETTINGS, seed=1))

    @pytest.mark.parametrize('content', [
        '{', '[]', '{"settings": 1, "cells": []}',
        '{"settings": {}, "cells": [{"shift": {}}]}',
        '{"settings": {"weights": "abc", "seed": 0}, "cells": [{"shift": '
        '{"kind": "clean", "name": "clean", "strength": 0}, "values": {}, '
        '"resamples": {}, "num_detections": 1}]}'
    ])
    def test_damaged_file(self, path, content):
        with open(path, 'w', encoding='utf-8') as file:
            file.write(content)
        with pytest.raises(
                InvalidValueError, match='remove it, or choose another'):
            CellFile(path, self.SETTINGS)

    def test_a_failed_write_leaves_the_old_cells(self, path, monkeypatch):
        cells = make_cells()
        CellFile(path, self.SETTINGS).add(cells[0])

        def fail(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr('os.replace', fail)
        with pytest.raises(KeyboardInterrupt):
            CellFile(path, self.SETTINGS).add(cells[1])
        assert list(CellFile(path, self.SETTINGS).cells) == [CLEAN]

    def test_file_is_plain_json(self, path):
        CellFile(path, self.SETTINGS).add(
            make_cell(CLEAN, 0.1, np.nan, num_resamples=2))
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        assert content['cells'][0]['values']['d_ece'] is None
        write_json_atomically(path, content)
        assert CLEAN in CellFile(path, self.SETTINGS).cells
