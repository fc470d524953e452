"""What the page says in short, of made-up measurements."""
from types import SimpleNamespace

import pytest

from tcal_det.report.recalibration_gain import RecalibrationGain
from tcal_det.report.summary import summarize_difference, summarize_results

NAN = float('nan')


def measured(overall=None, gains=(), differences=None, threshold=0.4, **other):
    overall = dict(
        dict(
            mAP=0.3,
            AP50=0.5,
            d_ece=0.1,
            d_ece_over=0.08,
            d_ece_under=0.02,
            laece_0=0.2), **(overall or {}))
    return SimpleNamespace(**dict(
        dict(
            name='other',
            report=SimpleNamespace(overall=overall, per_class=[]),
            split=SimpleNamespace(d_ap=dict(missed=0.05, background=0.1)),
            operating_point=SimpleNamespace(
                threshold=threshold, precision=0.75, recall=0.5),
            gains=list(gains),
            intervals={},
            gain_differences={},
            differences=differences or {},
            is_doubtful=False), **other))


def between(low, high):
    return SimpleNamespace(low=low, high=high, excludes_zero=low * high > 0)


def gain(value, target='precision'):
    return RecalibrationGain('platt', target, False, value, None)


def test_sentences():
    assert summarize_results(
        measured(intervals=dict(d_ece=between(0.09, 0.11)))
    ) == [
        'Accuracy: mAP 0.300; AP50 0.500.',
        'Calibration: scores differ from precision by 10.0 percentage points '
        'on average, mostly too high (D-ECE 0.100, 95 % interval 0.090 to '
        '0.110).',
        'The kind of error with the largest effect is "no object there": '
        'without it AP50 would be 0.100 higher.',
        'Threshold: keep detections with a score of at least 0.40; then 75 % '
        'of the detections are right and 50 % of the objects are found.'
    ]


@pytest.mark.parametrize('over, under, words',
                         [(0.01, 0.09, 'mostly too low'),
                          (0.05, 0.05, 'too high in some places'),
                          (0.09, 0.01, 'mostly too high')])
def test_direction_of_the_error(over, under, words):
    overall = dict(d_ece_over=over, d_ece_under=under)
    assert words in summarize_results(measured(overall))[1]


def test_undefined_figures_are_not_printed():
    sentences = summarize_results(
        measured(
            dict.fromkeys(
                ('mAP', 'AP50', 'd_ece', 'd_ece_over', 'd_ece_under'), NAN),
            threshold=NAN,
            split=SimpleNamespace(d_ap=dict(missed=NAN))))
    assert len(sentences) == 2 and 'nan' not in ' '.join(sentences)


@pytest.mark.parametrize('gains, differences, words', [
    ([gain(0.05)], {}, 'from 0.100 to 0.050'),
    ([gain(0.05)], dict(precision=between(-0.06, -0.04)), 'to 0.050'),
    ([gain(0.05)], dict(precision=between(-0.11, 0.01)), 'No recalibration'),
    ([gain(0.12)], {}, 'No recalibration'),
    ([gain(0.12), gain(0.06)], {}, 'to 0.060'),
])
def test_recalibration_is_advised_where_it_helps(gains, differences, words):
    one = measured(gains=gains, gain_differences=differences)
    assert words in summarize_results(one)[-1]


def test_rare_classes_are_not_called_the_worst():
    rows = [
        dict(name=name, num_detections=number, d_ece=error)
        for name, number, error in [('rare', 99, 0.9), ('a', 100,
                                                        0.2), ('b', 500, 0.3)]
    ]
    one = measured()
    one.report.per_class = rows
    sentence = "The class 'b' is calibrated worst: D-ECE 0.300."
    assert sentence in summarize_results(one)


def test_comparison():
    first = measured(dict(mAP=0.25, d_ece=0.12), name='first')
    text = summarize_difference(
        first,
        measured(
            differences=dict(
                mAP=between(0.01, 0.09), d_ece=between(-0.05, 0.01))))
    assert text == (
        'other compared with first: mAP 0.050 higher (95 % interval of the '
        'difference +0.010 to +0.090); D-ECE 0.020 lower (95 % interval of '
        'the difference -0.050 to +0.010, may be chance).')
    assert summarize_difference(first, measured()).count('%') == 0
    nothing = measured(dict(mAP=NAN, d_ece=NAN))
    assert summarize_difference(first, nothing) == ''
