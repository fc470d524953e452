"""What is too old, too new or missing is said when the plugin is imported."""
import pytest

from tcal_det import requirements_check


def pretend(monkeypatch, module, version):
    """Let one module be installed in another version."""
    original = requirements_check.installed_version

    def installed_version(name, distributions):
        return version if name == module else original(name, distributions)

    monkeypatch.setattr(requirements_check, 'installed_version',
                        installed_version)


@pytest.mark.parametrize('module, version, message', [
    ('mmdet', '2.28.2', r"needs mmdet>=3.0.0,<4.0, but found 2.28.2: install"
     r".*'mmdet>=3.0.0,<4.0' \(or onedl-mmdetection"),
    ('mmcv', '1.7.1', 'needs mmcv>=2.0.0,<3.0, but found 1.7.1'),
    ('mmengine', '1.0.0', 'needs mmengine>=0.8.0,<1.0, but found 1.0.0'),
    ('torch', '1.13.1+cu117', "needs torch>=2.0, but found 1.13.1.*'torch>="),
])
def test_unsupported_version(monkeypatch, module, version, message):
    pretend(monkeypatch, module, version)
    with pytest.raises(ImportError, match=message):
        requirements_check.check_requirements()


def test_missing_module(monkeypatch):

    def nothing(name, distributions):
        raise ImportError

    monkeypatch.setattr(requirements_check, 'installed_version', nothing)
    with pytest.raises(ImportError, match='torch>=2.0, but it is not inst'):
        requirements_check.check_requirements()


@pytest.mark.parametrize('version', [
    '3.0.0rc1', '3.0', '3.0.0+cu121', '3.5.1', '3.0.0.dev0', '3.0.0a0+git7d5'
])
def test_supported_version(monkeypatch, version):
    pretend(monkeypatch, 'mmdet', version)
    requirements_check.check_requirements()
