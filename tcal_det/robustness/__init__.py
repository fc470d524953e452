"""Measurements of a detector on corrupted and attacked images."""
