"""Draws, and the processes that work on them."""
import os
import subprocess
import sys

import numpy as np
import pytest

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation import image_resampling
from tcal_det.evaluation.image_resampling import (ProgressLine,
                                                  default_num_workers,
                                                  draw_multiplicities,
                                                  resample_images)


def first_image(multiplicities):
    return dict(first=multiplicities[0], total=multiplicities.sum(axis=0))


def test_images_are_drawn_with_replacement():
    draws = draw_multiplicities(8, 3, 0, 2000)
    assert draws.shape == (8, 2000)
    assert (draws.sum(axis=0) == 8).all() and (draws == draws.round()).all()
    # Binomial(8, 1 / 8): the variance is 7 / 8, and (7 / 8)^8 are 0.
    assert draws.var() == pytest.approx(7 / 8, abs=.03)
    assert (draws == 0).mean() == pytest.approx((7 / 8)**8, abs=.01)
    # Images are drawn apart from each other, but for the fixed sum.
    assert np.corrcoef(draws)[0, 1] == pytest.approx(-1 / 7, abs=.07)


def test_a_resample_depends_on_its_number_alone():
    draws = draw_multiplicities(8, 3, 0, 40)
    assert (draw_multiplicities(8, 3, 30, 40) == draws[:, 30:]).all()
    assert (draws[:, 0] != draws[:, 1]).any()
    assert (draw_multiplicities(8, 4, 0, 40) != draws).any()


@pytest.mark.parametrize('num_workers', [1, 2, 5])
def test_all_resamples_in_order(num_workers):
    found, = resample_images([first_image], 8, 70, 3, num_workers)
    draws = draw_multiplicities(8, 3, 0, 70)
    assert (found['first'] == draws[0]).all()
    assert (found['total'] == 8).all()


SCRIPT = """
import multiprocessing
from functools import partial
import numpy as np
from tcal_det.evaluation.image_resampling import resample_images

if __name__ == '__main__':
    multiprocessing.set_start_method('spawn')
    found, = resample_images([partial(dict_of_sums)], 6, 40, 1, 2)
    print(found['sums'].sum())
"""


@pytest.mark.slow
def test_spawned_processes(tmp_path):
    """As on Windows and macOS: nothing but what is sent is known there."""
    script = tmp_path / 'script.py'
    script.write_text('def dict_of_sums(w):\n    return dict(sums=w[1])\n' +
                      SCRIPT)
    output = subprocess.run([sys.executable, '-W', 'error',
                             str(script)],
                            env=dict(
                                os.environ,
                                PYTHONPATH=os.pathsep.join(sys.path[1:])),
                            stdout=subprocess.PIPE,
                            check=True,
                            universal_newlines=True).stdout
    assert float(output) == draw_multiplicities(6, 1, 0, 40)[1].sum()


class DiesElsewhere:
    """A function that ends any process but the one it was made in."""

    def __init__(self):
        self.home = os.getpid()

    def __call__(self, multiplicities):
        if os.getpid() != self.home:
            os._exit(1)
        return first_image(multiplicities)


def test_one_process_does_the_work_of_others_that_died():
    with pytest.warns(UserWarning, match='in one process'):
        found, = resample_images([DiesElsewhere()], 8, 70, 3, 2)
    assert (found['first'] == draw_multiplicities(8, 3, 0, 70)[0]).all()


def test_one_process_where_others_cannot_be_started(monkeypatch):

    def refused(*args, **kwargs):
        raise PermissionError('no semaphores here')

    monkeypatch.setattr(image_resampling, 'ProcessPoolExecutor', refused)
    with pytest.warns(UserWarning, match='no semaphores here'):
        found, = resample_images([first_image], 8, 70, 3, 2)
    assert (found['total'] == 8).all()


class Fails:
    """A function with a defect."""

    def __call__(self, multiplicities):
        raise ZeroDivisionError('of the function')


@pytest.mark.parametrize('num_workers', [1, 2])
def test_a_defect_of_the_function_is_not_hidden(num_workers):
    with pytest.raises(ZeroDivisionError, match='of the function'):
        resample_images([Fails()], 8, 70, 3, num_workers)


def test_number_of_workers(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert default_num_workers() == 3
    for value in ('', '0', 'many', '4,2'):
        monkeypatch.setenv('OMP_NUM_THREADS', value)
        assert 1 <= default_num_workers() <= os.cpu_count()
    with pytest.raises(InvalidValueError, match='`num_workers`'):
        resample_images([first_image], 8, 70, 3, 0)


def test_progress_line_now_and_then(monkeypatch):
    clock = iter([100, 101, 104.9, 105, 106, 111])
    monkeypatch.setattr(image_resampling.time, 'monotonic',
                        lambda: next(clock))
    lines = []
    progress = ProgressLine(lines.append)
    for done in (16, 32, 48, 64, 80):
        progress(done, 80)
    assert lines == ['48 of 80 resamples', '80 of 80 resamples']
