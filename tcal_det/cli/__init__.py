"""Commands on files: what ``tcal-eval`` and its siblings run.

Each module has ``main``, which the console scripts and the files in
``tools/`` call.
"""
