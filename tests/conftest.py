"""Fixtures of all tests; those with detectors where torch is installed."""
import json
import os
from importlib.util import find_spec

import pytest

if find_spec('torch') is not None:
    pytest_plugins = ['tests.mmdet_fixtures']

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope='session')
def golden():
    """Read an expected-values file of tests/data/golden."""

    def read(name):
        path = os.path.join(HERE, 'data', 'golden', name)
        with open(path, encoding='utf-8') as file:
            return json.load(file)

    return read
