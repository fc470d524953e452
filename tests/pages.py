"""Links and headings of Markdown pages."""
import os.path as osp
import re
from collections import Counter

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
# A link's text may have one level of brackets, as that of a reference has.
LINK = re.compile(r'\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)')


def prose(page):
    """A page's text without what is code."""
    with open(osp.join(ROOT, page), encoding='utf-8') as file:
        text = re.sub(r'^```.*?^```$', '', file.read(), flags=re.M | re.S)
    return re.sub(r'`[^`\n]+`', lambda code: code[0].replace('[', '('), text)


def anchors(page):
    """The names that GitHub gives to a page's headings."""
    found, seen = [], Counter()
    for heading in re.findall(r'^#+ +(.+?)\s*$', prose(page), flags=re.M):
        heading = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
        name = re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
        # Equal headings get a number, from the second on.
        found.append(f'{name}-{seen[name]}' if seen[name] else name)
        seen[name] += 1
    return found


def targets(page):
    """File, from the root, and anchor of each link that stays here."""
    for link in LINK.findall(prose(page)):
        if not re.match(r'[a-z]+:', link):
            path, _, anchor = link.partition('#')
            path = osp.join(osp.dirname(page), path) if path else page
            yield osp.normpath(path), anchor
