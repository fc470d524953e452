"""benchmarks/ is no part of the installed package: found from the checkout."""
import os
import sys

sys.path.insert(
    0,
    os.path.dirname(
        os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
