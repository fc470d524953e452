"""Benchmark of the time and memory that distillation adds to a training step.

workload    models and batches of a case, equal for every variant
variants    compared training steps
mmrazor     training step of mmrazor, if it is installed
workers     processes, one for each variant
comparison  seconds and memory of the variants side by side
tables      Markdown tables of the figures
"""
