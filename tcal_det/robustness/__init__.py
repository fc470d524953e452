"""A detector on images that are not as in training: corrupted or attacked."""
