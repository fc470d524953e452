"""Commands, and the code of a data set that benchmarks and tests import."""
