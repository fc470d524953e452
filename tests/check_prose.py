"""Check the English of docstrings, comments and pages against a word list.

``make lint`` runs this script. It prints ``FILE:LINE: FOUND: REMEDY`` for each
finding, and exits with status 1 if there is any. Paths limit what is checked.
"""
import argparse
import ast
import io
import itertools
import json
import os
import os.path as osp
import re
import sys
import tokenize
from typing import Iterator, List, NamedTuple, Sequence, Tuple

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
PATHS = ('README.md', 'docs', 'tcal_det', 'tools', 'benchmarks', 'configs')
# Pages that are not edited any more.
FROZEN = ('docs/evidence/preregistration.md',
          'docs/evidence/study_12-epochs.md')

# Pattern and remedy. A space matches any white space, also a line break; upper
# and lower case are equal.
PROSE_RULES = (
    (r"\b(?!there\b)\w+['`)]* (?:is|are|was|were) no\b(?! longer| more)",
     "'is not a' or 'are not'"),
    (r'\bas (?:it is|they are)(?=[.,;:)]|\s*$)',
     "'unchanged', 'raw' or 'uncalibrated'"),
    (r'\ball the same(?=[.,;:)])', "'still' or 'nevertheless'"),
    (r'\bso far(?! as)\b', "'yet', or the time that is meant"),
    (r'\bwhether or no\b', "'whether'"),
    (r'\bin the place of\b', "'instead of'"),
    (r'\bfor want of\b', "'without'"),
    (r'\bat hand\b', "'available'"),
    (r'\bto be trusted\b', "'reliable'"),
    (r'\blets? go of\b', "'release'"),
    (r'\bpart with\b', "'close', 'destroy' or 'release'"),
    (r'\bleaves? the matter\b', 'the effect, e.g. "changes nothing"'),
    (r'\bc[ao]mes? to grief\b', "'fails'"),
    (r'\bis at (?:it|work)\b', "'runs'"),
    (r'\bwhat (?:was|is) heard\b', "'the recorded outputs'"),
    (r'\b(?:is|are|was) listened to\b', "'is recorded'"),
    (r'\bspeaks? for (?:itself|themselves)\b', 'the reason'),
    (r'\bknows? (?:no|not|nothing|none)\b', "'lacks' or 'does not support'"),
    (r'\basks? for\b', "'needs' or 'requires'"),
    (r'\b(?:tells?|told|telling)(?: \w+)? apart\b', "'distinguish'"),
    (r'\b(?:cannot|can) be told\b', "'is unknown' or 'is known'"),
    (r'\bsays? nothing\b', 'what is unknown'),
    (r'\bstands? (?:here|there|beside|apart)\b', 'the place, e.g. "is in"'),
    (r'\bhonest doubts?\b', "'uncertainty'"),
    (r'\bsome(?:body|one) else\b', 'who it is, e.g. "another process"'),
    (r'\bworth a (?:try|look)\b', 'the reason to do it'),
    (r'\bhas no (?:part|place) (?:in|on)\b', "'is not part of'"),
    (r'\breading taken:', "'Interpretation:'"),
    (r'\badapted:', "'Difference from the paper:'"),
    (r'\bshape shorthand\b', "'Shapes:'"),
)
# Forms of docstrings. A space matches itself, ^ the beginning of a line.
DOCSTRING_RULES = (
    (r'^ +(?!>>>)[^\s:][^:\n]*: (?:Of|Whether or no|So many|As there)\b',
     'a noun phrase, e.g. "seed (int): Random seed of the sampler."'),
    (r'^ +(?:\*{0,2}\w+ \(|(?=\w+\[))[^\n:]*?\b(?:Dict|List|Tuple|Optional'
     r'|Union|Set)\[', 'builtin generics, e.g. "dict[str, int]"'),
    (r'^ +\*{0,2}\w+ \([^\n)]*\| *None\b',
     '"optional", e.g. "(int, optional)"'),
    (r'^ +\w+(?:Error|Exception), \w+', 'one exception per line'),
    (r'^ *References?: +\S', "'Reference:' on a line of its own"),
)
RULES = tuple((re.compile(pattern.replace(' ', r'\s+'), re.M | re.I), remedy)
              for pattern, remedy in PROSE_RULES)
FORMS = tuple(
    (re.compile(pattern, re.M), remedy) for pattern, remedy in DOCSTRING_RULES)
CODE_OF_PAGES = re.compile(r'^(```|~~~).*?^\1|^    .*?$|`[^`\n]+`',
                           re.M | re.S)


class Text(NamedTuple):
    """Docstring, block of comments or page, and its first line."""
    line: int
    text: str
    is_docstring: bool = False


def python_texts(source: str) -> Iterator[Text]:
    """Yield the docstrings and the blocks of comments of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef,
                             ast.FunctionDef)) and ast.get_docstring(node):
            value = node.body[0].value
            yield Text(value.lineno, ast.get_source_segment(source, value),
                       True)
    blocks: List[Tuple[int, List[str]]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, text = token.start[0], token.string.lstrip('#')
            if blocks and line == blocks[-1][0] + len(blocks[-1][1]):
                blocks[-1][1].append(text)
            else:
                blocks.append((line, [text]))
    for line, rows in blocks:
        yield Text(line, '\n'.join(rows))


def page_text(source: str) -> Text:
    """Return a Markdown page without code, with unchanged line numbers."""
    return Text(
        1,
        CODE_OF_PAGES.sub(lambda code: '\n' * code[0].count('\n') or 'x',
                          source))


def notebook_text(source: str) -> str:
    """Return the prose of a notebook as one page."""
    return '\n'.join(''.join(cell['source']) + '\n'
                     for cell in json.loads(source)['cells']
                     if cell['cell_type'] == 'markdown')


def findings(path: str, source: str) -> List[str]:
    """Check the texts of one file, given its path and its content.

    Lines of a notebook are counted in its prose alone.
    """
    is_page = path.endswith(('.md', '.ipynb'))
    if path.endswith('.ipynb'):
        source = notebook_text(source)
    found = []
    for text in [page_text(source)] if is_page else python_texts(source):
        for pattern, remedy in RULES + FORMS * text.is_docstring:
            for match in pattern.finditer(text.text):
                line = text.line + text.text.count('\n', 0, match.start())
                words = ' '.join(match[0].split())
                found.append((line, f'{path}:{line}: {words!r}: {remedy}'))
    return [message for _, message in sorted(found)]


def files_of(path: str) -> List[str]:
    """List modules, pages and notebooks of a folder that is not hidden."""
    return [path] if osp.isfile(path) else sorted(
        osp.join(folder, name) for folder, _, names in os.walk(path)
        for name in names
        if name.endswith(('.py', '.md',
                          '.ipynb')) and '/.' not in folder[len(path):])


def check(paths: Sequence[str]) -> int:
    """Print the findings of files and folders, and return their number."""
    number = 0
    for path in itertools.chain.from_iterable(map(files_of, paths)):
        name = osp.relpath(path, ROOT)
        if name not in FROZEN:
            with open(path, encoding='utf-8') as file:
                messages = findings(name, file.read())
            number += len(messages)
            print(''.join(f'{message}\n' for message in messages), end='')
    return number


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='*', help=f'(default: {PATHS})')
    sys.exit(check(parser.parse_args().paths or PATHS) > 0)
