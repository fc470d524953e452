"""Measure, calibrate and rank teachers on annotated images."""
