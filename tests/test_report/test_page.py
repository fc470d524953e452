"""The page as a file: what it holds, what it escapes, what it never loads."""
import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import pytest

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import evaluate_detections
from tcal_det.fileio import plain_json
from tcal_det.report import page, write_report
from tests.test_report.report_scenes import (HOSTILE, HOSTILE_JSON,
                                             golden_scene, many_classes)

pytest.importorskip('jinja2')
pytest.importorskip('vl_convert')
pytestmark = pytest.mark.filterwarnings('ignore:undefined')

VOID = {'meta', 'input', 'br', 'hr', 'img', 'link'}
LOADING = ('src', 'href', 'srcset', 'action', 'poster', 'data', 'style')


class Page(HTMLParser):
    """Elements of a page, with their texts; nesting is checked."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self._open = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, attrs)
        element = dict(tag=tag, attrs=dict(attrs), text='')
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(dict(tag=tag, attrs=dict(attrs), text=''))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1]['tag'] == tag, (tag,
                                                             self.getpos(),
                                                             self._open[-1:])
        self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element['text'] += data

    def find(self, tag, **attrs):
        return [
            one for one in self.elements if one['tag'] == tag and all(
                one['attrs'].get(key.replace('_', '-')) == value
                for key, value in attrs.items())
        ]


@pytest.fixture(scope='module')
def without_library():
    """The chart library takes seconds to bundle and says nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, 'chart_library', lambda: 'window.vega = 1;')
        yield


@pytest.fixture(scope='module')
def hostile_page(without_library, tmp_path_factory):
    path = tmp_path_factory.mktemp('report') / 'page.html'
    ground_truth, detections = many_classes()
    write_report(
        str(path),
        ground_truth, {
            HOSTILE: detections,
            HOSTILE_JSON: detections
        },
        title=HOSTILE,
        num_resamples=40)
    text = path.read_text(encoding='utf-8')
    return text, Page(text)


@pytest.fixture(scope='module')
def golden_page(without_library, tmp_path_factory):
    path = tmp_path_factory.mktemp('report') / 'page.html'
    ground_truth, detections = golden_scene()
    write_report(
        str(path), ground_truth, {'small': detections}, num_resamples=0)
    return Page(path.read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def golden_evaluation():
    report = evaluate_detections(*golden_scene())
    return plain_json(report.overall), plain_json(report.per_class)


def test_a_hostile_name_is_a_text(hostile_page):
    text, parsed = hostile_page
    assert HOSTILE not in text
    assert '<!--' not in text
    assert parsed.find('title')[0]['text'] == HOSTILE
    assert parsed.find('h1')[0]['text'] == HOSTILE
    names = {one['text'] for one in parsed.find('th', scope='row')}
    assert {HOSTILE, HOSTILE_JSON} <= names
    # The data, the charts' specs and two scripts; none was smuggled in.
    scripts = parsed.find('script')
    data = [one for one in scripts if 'type' in one['attrs']]
    assert len(scripts) - len(data) == 2
    for one in data:
        assert one['attrs']['type'] == 'application/json'
        json.loads(one['text'], parse_constant=pytest.fail)
    names = [
        row['name'] for row in json.loads(
            parsed.find('script', id='evaluations')[0]['text'])[HOSTILE]
        ['per_class']
    ]
    assert names[:2] == [HOSTILE, HOSTILE_JSON]


def test_nothing_is_loaded(hostile_page):
    text, parsed = hostile_page
    assert not parsed.find('link') and not parsed.find('iframe')
    for one in parsed.elements:
        for name, value in one['attrs'].items():
            assert not name.startswith('on'), one
            if name in LOADING:
                assert value.startswith(('#', 'data:')), one
    style = parsed.find('style')[0]['text']
    assert 'url(' not in style and '@import' not in style


def test_policy_allows_the_two_scripts_only(hostile_page):
    text, parsed = hostile_page
    policy = parsed.find(
        'meta', http_equiv='Content-Security-Policy')[0]['attrs']['content']
    rules = dict(rule.split(None, 1) for rule in policy.split('; '))
    assert rules['default-src'] == "'none'"
    assert rules['img-src'] == 'data:'
    hashes = {
        "'sha256-" + base64.b64encode(
            hashlib.sha256(one['text'].encode()).digest()).decode() + "'"
        for one in parsed.find('script') if 'type' not in one['attrs']
    }
    assert set(rules['script-src'].split()) == hashes and len(hashes) == 2


def test_headlines_are_those_of_the_evaluation(golden_page, golden_evaluation):
    overall, _ = golden_evaluation
    shown = {
        one['attrs']['data-figure']: one
        for one in golden_page.find('data') if 'data-figure' in one['attrs']
    }
    assert {'mAP', 'AP50', 'AP75', 'd_ece', 'laece', 'olrp',
            'brier'} <= set(shown)
    for key, one in shown.items():
        assert float(one['attrs']['value']) == overall[key], key
        assert one['text'] == f'{overall[key]:.3f}', key


def test_class_table_is_that_of_the_evaluation(golden_page, golden_evaluation):
    _, per_class = golden_evaluation
    start = golden_page.elements.index(
        golden_page.find('table', id='r1-class-table')[0])
    end = golden_page.elements.index(
        golden_page.find('section', id='r1-errors')[0])
    cells = [
        one['attrs'] for one in golden_page.elements[start:end]
        if one['tag'] == 'td'
    ]
    keys = list(dict.fromkeys(cell['data-key'] for cell in cells))
    assert len(keys) >= 10 and len(cells) == len(keys) * len(per_class)
    for number, cell in enumerate(cells):
        expected = per_class[number // len(keys)][cell['data-key']]
        value = cell['data-value']
        assert (float(value) if value else None) == expected, cell


def test_embedded_data_is_the_evaluation(golden_page, golden_evaluation):
    overall, per_class = golden_evaluation
    content = json.loads(
        golden_page.find('script', id='evaluations')[0]['text'])['small']
    assert content['overall'] == overall
    assert content['per_class'] == per_class
    assert content['intervals'] == {}


def test_every_table_and_field_is_named(hostile_page):
    _, parsed = hostile_page
    captions = parsed.find('caption')
    assert len(captions) == len(parsed.find('table'))
    assert all(one['text'].strip() for one in captions)
    identities = [
        one['attrs']['id'] for one in parsed.elements if 'id' in one['attrs']
    ]
    assert len(set(identities)) == len(identities)
    labelled = {one['attrs']['for'] for one in parsed.find('label')}
    fields = parsed.find('input') + parsed.find('select')
    assert fields
    assert {one['attrs']['id'] for one in fields} == labelled
    for one in parsed.find('a'):
        assert one['attrs']['href'][1:] in identities
    for one in parsed.elements:
        if one['attrs'].get('role') in ('img', 'region'):
            assert one['attrs']['aria-label'].strip()
    assert len(parsed.find('main')) == len(parsed.find('h1')) == 1
    assert parsed.find('html')[0]['attrs']['lang'] == 'en'


def test_identical_results_do_not_differ(hostile_page):
    _, parsed = hostile_page
    differences = [
        one for one in parsed.find('td')
        if 'difference' in one['attrs'].get('class', '').split()
    ]
    assert differences
    for one in differences:
        assert one['text'].split() == ['+0.000', '+0.000', 'to', '+0.000']


def test_page_without_a_single_detection(without_library, tmp_path):
    ground_truth, detections = golden_scene()
    none = type(detections)(*(part[:0] for part in vars(detections).values()))
    path = tmp_path / 'page.html'
    write_report(str(path), ground_truth, {'none': none}, num_resamples=40)
    parsed = Page(path.read_text(encoding='utf-8'))
    shown = {
        one['attrs']['data-figure']: one['text']
        for one in parsed.find('data') if 'data-figure' in one['attrs']
    }
    assert shown['d_ece'] == '\u2013' and shown['olrp'] == '1.000'
    assert 'calibration is undefined' in parsed.find('body')[0]['text']


@pytest.mark.parametrize('module', ['jinja2', 'vl_convert', 'PIL'])
def test_missing_package_is_one_line(module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / 'page.html'
    ground_truth, detections = golden_scene()
    with pytest.raises(InvalidValueError) as raised:
        write_report(str(path), ground_truth, {'small': detections})
    message = str(raised.value)
    assert module in message and 'pip install jinja2' in message
    assert '\n' not in message
    assert not path.exists()


def test_library_cannot_end_its_script(monkeypatch):
    import vl_convert
    monkeypatch.setattr(vl_convert, 'javascript_bundle',
                        lambda: 'x = "</script><script>";')
    assert re.search('</script', page.chart_library()) is None
