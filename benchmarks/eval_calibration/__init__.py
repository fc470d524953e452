"""Time of the calibration figures beside COCOeval: its parts.

made_up_set  objects and results like those of COCO, from a seed
contestants  implementations that are compared, each in its own process
commands     the same as whole commands, files read and written included
memory       largest memory of a process
tables       Markdown of the figures
"""
