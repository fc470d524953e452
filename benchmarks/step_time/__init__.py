"""What distillation adds to a training step: its parts.

workload    one case's models and batches, alike for every variant
variants    the training steps that are compared
mmrazor     one of them, where it is installed
workers     a process for each variant
comparison  seconds and memory of variants side by side
tables      Markdown of the figures
"""
