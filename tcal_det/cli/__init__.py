"""Commands that work on files, such as ``tcal-eval``.

Each module has a function ``main``, which the console script and the file in
``tools/`` call.
"""
