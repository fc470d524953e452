"""Colours of the page's style sheet can be read, in light, dark and print."""
import os.path as osp
import re

import pytest

import tcal_det.report

STYLE = osp.join(
    osp.dirname(tcal_det.report.__file__), 'templates', 'style.css')
# Text colour, ground and least contrast; 4.5 is WCAG 2.2, 1.4.3 (AA).
PAIRS = [('ink', 'paper'), ('ink', 'ground'), ('soft', 'paper'),
         ('soft', 'ground'), ('soft', 'accent-ground'), ('accent', 'paper'),
         ('accent', 'ground'), ('good', 'paper'), ('bad', 'paper'),
         ('head-ink', 'head'), ('head-soft', 'head')]


def luminance(colour):
    if len(colour) == 4:
        colour = '#' + ''.join(2 * digit for digit in colour[1:])
    channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055)**2.4
        for c in channels
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear))


def themes():
    with open(STYLE, encoding='utf-8') as file:
        blocks = re.findall(r':root \{(.*?)\}', file.read(), re.S)
    colours = [
        dict(re.findall(r'--([a-z-]+): (#[0-9a-f]+)', block))
        for block in blocks
    ]
    assert len(colours) == 3
    return zip(('light', 'dark', 'print'), colours)


def test_contrast_of_black_and_white():
    assert (luminance('#fff') + 0.05) / (luminance('#000') + 0.05) == 21


@pytest.mark.parametrize('name, colours', themes())
@pytest.mark.parametrize('text, ground', PAIRS)
def test_contrast(name, colours, text, ground):
    low, high = sorted((luminance(colours[text]), luminance(colours[ground])))
    assert (high + 0.05) / (low + 0.05) >= 4.5, (name, text, ground)
