"""Fixtures of all tests; those with detectors where torch is installed."""
import gc
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


def pytest_collection_finish():
    """Leave out the imported modules from each later garbage collection.

    They and the thousands of collected tests live as long as the process.
    """
    gc.collect()
    gc.freeze()
