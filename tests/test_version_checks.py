"""What is too old, too new or missing is said when tcal_det is imported."""
import pytest

import tcal_det


@pytest.mark.parametrize('module, version, message', [
    ('mmdet', '2.28.2', r"needs mmdet>=3.0.0,<4.0, but found 2.28.2: install"
     r".*'mmdet>=3.0.0,<4.0' \(or onedl-mmdetection"),
    ('mmcv', '1.7.1', 'needs mmcv>=2.0.0,<3.0, but found 1.7.1'),
    ('mmengine', '1.0.0', 'needs mmengine>=0.8.0,<1.0, but found 1.0.0'),
    ('torch', '1.13.1+cu117', "needs torch>=2.0, but found 1.13.1.*'torch>="),
])
def test_unsupported_version(monkeypatch, module, version, message):
    original = tcal_det._installed_version
    monkeypatch.setattr(
        tcal_det, '_installed_version', lambda name, distributions: version
        if name == module else original(name, distributions))
    with pytest.raises(ImportError, match=message):
        tcal_det._check_requirements()


def test_missing_module(monkeypatch):

    def nothing(name, distributions):
        raise ImportError

    monkeypatch.setattr(tcal_det, '_installed_version', nothing)
    with pytest.raises(ImportError, match='torch>=2.0, but it is not inst'):
        tcal_det._check_requirements()


@pytest.mark.parametrize('text, release', [
    ('2.1.2+cu121', (2, 1, 2)),
    ('3.0.0rc1', (3, 0, 0)),
    ('2.0', (2, 0)),
])
def test_release(text, release):
    assert tcal_det._release(text) == release
