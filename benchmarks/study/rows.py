"""Reads the results file."""
import json
import os.path as osp


def read_rows(path):
    """Rows of a JSON Lines file; none where it does not exist."""
    if not osp.isfile(path):
        return []
    with open(path, encoding='utf-8') as file:
        return [json.loads(line) for line in file]
