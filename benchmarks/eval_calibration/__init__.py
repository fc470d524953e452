"""Benchmark of the calibration figures against COCOeval.

generated_set    objects and results like those of COCO, generated from a seed
implementations  compared implementations, each in its own process
commands         complete commands, including reading and writing of files
memory           peak memory of a process
tables           Markdown tables of the figures
"""
