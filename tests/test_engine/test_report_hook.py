"""Mistakes in the config of a ReportHook; a report is in test_tools."""
from types import SimpleNamespace

import pytest
from mmdet.evaluation import CocoMetric

from tcal_det.errors import InvalidValueError
from tcal_det.registry import HOOKS


def test_message_names_the_argument_of_the_hook():
    with pytest.raises(
            InvalidValueError,
            match="^`out` of ReportHook must end in .html, but got 'x.txt'$"):
        HOOKS.build(dict(type='tcal_det.ReportHook', out='x.txt'))


def test_a_report_needs_the_metric(tmp_path):
    pytest.importorskip('jinja2')
    pytest.importorskip('vl_convert')
    hook = HOOKS.build(
        dict(type='tcal_det.ReportHook', out=str(tmp_path / 'x.html')))
    metric = CocoMetric.__new__(CocoMetric)
    runner = SimpleNamespace(test_evaluator=SimpleNamespace(metrics=[metric]))
    with pytest.raises(
            InvalidValueError,
            match=r"^a report needs .*but got \['CocoMetric'\]: add dict"):
        hook.before_test(runner)
