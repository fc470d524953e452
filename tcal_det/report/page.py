"""Render the contents as one self-contained HTML page."""
import base64
import hashlib
import json
import math
from typing import Any, Dict, Optional

from tcal_det.errors import InvalidValueError
from tcal_det.fileio import plain_json

_FORMATS = dict(
    figure='{:.3f}', signed='{:+.3f}', count='{:,}', share='{:.0%}')
REMEDY = 'pip install jinja2 vl-convert-python pillow'


def check_requirements() -> None:
    """Raise, before any work, if a package for the report is missing.

    Raises:
        InvalidValueError: If a package is missing; the message contains the
            command that installs it.
    """
    for module in ('jinja2', 'vl_convert', 'PIL'):
        try:
            __import__(module)
        except ImportError as error:
            raise InvalidValueError(
                f'the report needs jinja2, vl-convert-python and pillow, but '
                f'{module} cannot be imported ({error}): {REMEDY}') from None


def render_page(contents: Dict[str, Any]) -> str:
    """Render the HTML of a report.

    All texts are escaped, also inside scripts. The content security policy of
    the page allows no network access and no scripts but the two whose hashes
    it contains.

    Args:
        contents (dict[str, Any]): Contents from :func:`page_contents`.

    Returns:
        str: Self-contained HTML page.
    """
    import jinja2
    from markupsafe import Markup
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('tcal_det.report'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined)
    environment.filters.update(
        number=format_number,
        unbroken=_unbroken,
        data=_data_value,
        embedded_json=_embedded_json)
    scripts = [
        chart_library(),
        environment.loader.get_source(environment, 'page.js')[0]
    ]
    style = environment.loader.get_source(environment, 'style.css')[0]
    return environment.get_template('report.html').render(
        scripts=[Markup(script) for script in scripts],
        style=Markup(style),
        script_hashes=' '.join(map(_hash, scripts)),
        **contents)


def chart_library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script.

    Returns:
        str: JavaScript that cannot end a script element.
    """
    import vl_convert
    script = vl_convert.javascript_bundle()
    # Inside a string of the library it would end the script element.
    return script.replace('</script', '<\\/script')


def format_number(value: Optional[float], kind: str = 'figure') -> str:
    r"""Format a number for a table; an undefined number is an en dash.

    Args:
        value (float, optional): Number to format; None or NaN if undefined.
        kind (str): Kind of number, see :class:`Column`. Defaults to
            'figure'.

    Returns:
        str: Formatted number.

    Example:
        >>> format_number(0.0534), format_number(1234, 'count')
        ('0.053', '1,234')
        >>> format_number(-0.0041, 'signed'), format_number(0.25, 'share')
        ('−0.004', '25\xa0%')
    """
    if value is None or math.isnan(value):
        return '\u2013'
    text = _FORMATS[kind].format(value).replace('%', '\u00a0%')
    # A minus sign instead of a hyphen.
    return text.replace('-', '\u2212')


def _unbroken(title: str) -> str:
    """Replace hyphens by non-breaking hyphens."""
    return title.replace('-', '\u2011')


def _data_value(value: Any) -> str:
    """Unrounded value for sorting; '' if it is undefined."""
    if isinstance(value, str):
        return value
    return '' if value is None or math.isnan(value) else repr(value)


def _embedded_json(value: Any) -> Any:
    """Serialise a value as JSON that is safe inside a script element."""
    from jinja2.utils import htmlsafe_json_dumps
    return htmlsafe_json_dumps(
        plain_json(value),
        dumps=json.dumps,
        allow_nan=False,
        separators=(',', ':'))


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode('utf-8')).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
