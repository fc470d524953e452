"""The page in a browser: it draws, sorts, filters, fits and loads nothing."""
import json
import shutil
import time
from urllib.parse import urlsplit

import pytest

from tests.test_report.report_scenes import HOSTILE, many_classes

webdriver = pytest.importorskip('selenium.webdriver')
pytest.importorskip('jinja2')
pytest.importorskip('vl_convert')

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
CHROMEDRIVER = shutil.which('chromedriver')
pytestmark = [
    pytest.mark.skipif(
        not (CHROMIUM and CHROMEDRIVER),
        reason='chromium or chromedriver is not installed'),
    pytest.mark.slow,
]
FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
         '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--hide-scrollbars')


@pytest.fixture(scope='module')
def page_url(tmp_path_factory):
    from tcal_det.report import write_report
    path = tmp_path_factory.mktemp('report') / 'page.html'
    ground_truth, detections = many_classes()
    write_report(
        str(path),
        ground_truth, {
            'first': detections,
            HOSTILE: detections
        },
        title=HOSTILE,
        num_resamples=0)
    return path.as_uri()


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(
        f'--user-data-dir={tmp_path_factory.mktemp("profile")}')
    options.set_capability('goog:loggingPrefs',
                           dict(browser='ALL', performance='ALL'))
    service = webdriver.chrome.service.Service(CHROMEDRIVER)
    browser = webdriver.Chrome(options=options, service=service)
    # The messages of the browser's own start page.
    browser.get('about:blank')
    browser.get_log('performance')
    yield browser
    browser.quit()


@pytest.fixture(scope='module')
def opened(browser, page_url):
    """The page, all charts drawn; with the messages of its loading."""
    resize(browser, 1280)
    browser.get(page_url)
    deadline = time.monotonic() + 120
    while browser.find_elements('css selector', '.plot:not([data-drawn])'):
        assert time.monotonic() < deadline, browser.get_log('browser')
        time.sleep(0.1)
    messages = [
        json.loads(entry['message'])['message']
        for entry in browser.get_log('performance')
    ]
    browser.messages = browser.get_log('browser')
    browser.requests = [
        message['params']['request']['url'] for message in messages
        if message['method'] == 'Network.requestWillBeSent'
    ]
    return browser


def resize(browser, width):
    browser.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride',
        dict(width=width, height=800, deviceScaleFactor=1, mobile=False))


def column(browser, number):
    """What the class table shows in a column, hidden rows left out."""
    return browser.execute_script(
        'return Array.from(document.querySelectorAll("#r1-class-table tbody '
        'tr")).filter((row) => !row.hidden).map((row) => '
        f'row.cells[{number}].textContent)')


def heading(browser, number):
    button = browser.find_elements('css selector',
                                   '#r1-class-table thead button')[number]
    # Away from the bar of links, which stays at the top; not gliding there.
    browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})",
        button)
    return button


def test_no_error_and_no_request(opened, page_url):
    assert opened.messages == []
    assert page_url in opened.requests
    schemes = {urlsplit(url).scheme for url in opened.requests}
    # chrome: the browser's own start page.
    assert schemes <= {'file', 'data', 'chrome', 'about'}
    assert [url for url in opened.requests
            if url.startswith('file:')] == [page_url]


def test_charts_are_drawn(opened):
    plots = opened.find_elements('css selector', '.plot')
    drawn = opened.find_elements('css selector', '.plot svg')
    assert len(plots) == len(drawn) > 10
    for one in drawn:
        assert one.size['width'] > 100 and one.size['height'] > 40


def test_hostile_names_are_shown(opened):
    assert opened.title == HOSTILE
    assert HOSTILE in column(opened, 0)


def test_numbers_sort_as_numbers(opened):
    objects = [12 * (k + 1) for k in range(12)]  # 144 after 24 in texts
    shown = [f'{n:,}' for n in objects]
    button = heading(opened, 1)
    assert column(opened, 1) == shown
    button.click()
    assert column(opened, 1) == shown[::-1]
    assert [
        one.get_attribute('aria-sort') for one in opened.find_elements(
            'css selector', '#r1-class-table thead th')[:3]
    ] == [None, 'descending', None]
    button.click()
    assert column(opened, 1) == shown


@pytest.mark.parametrize('key', ['\ue007', ' '], ids=['enter', 'space'])
def test_sorts_by_keyboard(opened, key):
    button = heading(opened, 0)
    button.send_keys(key)
    names = column(opened, 0)
    button.send_keys(key)
    assert column(opened, 0) == names[::-1] and len(names) == 12
    # class 2 before class 10.
    assert abs(names.index('class 2') - names.index('class 3')) == 1


def test_filter(opened):
    field = opened.find_element('id', 'r1-class-table-filter')
    field.send_keys('CLASS 1')
    assert sorted(column(opened, 0)) == ['class 10', 'class 11']
    output = opened.find_element('css selector',
                                 'output[for=r1-class-table-filter]')
    assert output.text == '2 of 12 rows'
    field.clear()
    field.send_keys(' ')
    assert len(column(opened, 0)) == 12


def test_class_of_a_diagram_can_be_chosen(opened):

    def bars():
        return opened.execute_script(
            'return Array.from(document.querySelectorAll("#r1-d_ece '
            '.mark-rect path")).map((bar) => bar.getAttribute("d"))')

    before = bars()
    opened.execute_script(
        'const s = document.getElementById("r1-d_ece-class"); s.value = "5";'
        's.dispatchEvent(new Event("change"));')
    deadline = time.monotonic() + 30
    while bars() == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize('width', [360, 768, 1280])
def test_page_is_no_wider_than_the_screen(opened, width):
    resize(opened, width)
    assert opened.execute_script(
        'return document.documentElement.scrollWidth') <= width
    resize(opened, 1280)


def test_dark_scheme(opened):

    def ground():
        return opened.execute_script(
            'return getComputedStyle(document.body).backgroundColor')

    light = ground()
    opened.execute_cdp_cmd(
        'Emulation.setEmulatedMedia',
        dict(features=[dict(name='prefers-color-scheme', value='dark')]))
    assert ground() != light
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[]))
