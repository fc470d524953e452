"""The study: runs planned beforehand, their results and their report."""
