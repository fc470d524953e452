"""Vega-Lite specifications of the charts of the report, as plain dicts.

Texts and grid lines take their colours from the style sheet of the page, so
that a chart can be shown on light and dark backgrounds and in print. Marks
have a contrast of 3 to 1 on both backgrounds.
"""
from typing import Any, Dict, List, Optional, Sequence

from tcal_det.evaluation.functional import BinTable

Spec = Dict[str, Any]

BLUE = '#2f7fc1'
ORANGE = '#d9730d'
GREY = '#8791a0'
# Class index that means all classes, in charts with a choice of classes.
ALL_CLASSES = -1
_LOW_OPACITY = 0.35
# Bins with fewer detections are drawn faintly.
_FEW = 20
# Equal widths of the vertical axes, so that charts below each other align.
_AXIS = dict(minExtent=46, maxExtent=46)
_BIN = dict(type='rect', stroke=None, xOffset=0.5, x2Offset=-0.5)
_SCORE_AXIS = dict(
    type='quantitative', scale=dict(domain=[0, 1], nice=False), title='Score')


def reliability_chart(tables: Sequence[BinTable], target: str) -> Spec:
    """Bars of the target over the score, with the gap to the mean score.

    Args:
        tables (Sequence[BinTable]): Bin table of all classes, then of each
            class that can be selected.
        target (str): Title of the vertical axis, e.g. 'Precision'.
    """
    bin_title = [
        dict(field='label', title='Scores'),
        dict(field='n', title='Detections', format=','),
        dict(field='s', title='Mean score', format='.3f'),
        dict(field='t', title=target, format='.3f'),
        dict(field='gap', title='Score minus target', format='+.3f')
    ]
    # The chart of counts below has the title of the axis.
    x = dict(field='low', **dict(_SCORE_AXIS, title=None))
    y_axis = dict(title=target, **_AXIS)
    y_scale = dict(domain=[0, 1], nice=False)
    opacity = dict(
        condition=dict(test=f'datum.n < {_FEW}', value=_LOW_OPACITY),
        value=0.85)
    return _chart(
        300,
        data=dict(values=bin_rows(tables)),
        params=[dict(name='chosen', value=ALL_CLASSES)],
        transform=[dict(filter='datum.c === chosen')],
        layer=[
            dict(
                mark=_BIN,
                encoding=dict(
                    x=x,
                    x2=dict(field='high'),
                    y=dict(
                        field='t',
                        type='quantitative',
                        scale=y_scale,
                        axis=y_axis),
                    y2=dict(datum=0),
                    color=dict(value=BLUE),
                    opacity=opacity,
                    tooltip=bin_title)),
            dict(
                mark=_BIN,
                encoding=dict(
                    x=x,
                    x2=dict(field='high'),
                    y=dict(field='t', type='quantitative'),
                    y2=dict(field='s'),
                    color=dict(
                        condition=dict(test='datum.gap > 0', value=ORANGE),
                        value=GREY),
                    opacity=dict(value=0.45),
                    tooltip=bin_title)),
            dict(
                mark=dict(type='rule', strokeWidth=2.5),
                encoding=dict(
                    x=x,
                    x2=dict(field='high'),
                    y=dict(field='s', type='quantitative'),
                    color=dict(
                        condition=dict(test='datum.gap > 0', value=ORANGE),
                        value=GREY),
                    tooltip=bin_title)),
            dict(
                data=dict(values=[dict(v=0), dict(v=1)]),
                mark=dict(type='line', strokeDash=[5, 4], strokeWidth=1.5),
                encoding=dict(
                    x=dict(field='v', **dict(_SCORE_AXIS, title=None)),
                    y=dict(field='v', type='quantitative'),
                    color=dict(value=GREY))),
        ])


def count_chart(tables: Sequence[BinTable]) -> Spec:
    """Number of detections in each bin, on a square-root axis."""
    return _chart(
        80,
        data=dict(values=bin_rows(tables)),
        params=[dict(name='chosen', value=ALL_CLASSES)],
        transform=[dict(filter='datum.c === chosen')],
        mark=_BIN,
        encoding=dict(
            x=dict(field='low', **_SCORE_AXIS),
            x2=dict(field='high'),
            y=dict(
                field='n',
                type='quantitative',
                scale=dict(type='sqrt'),
                axis=dict(title='Number', tickCount=3, format='~s', **_AXIS)),
            y2=dict(datum=0),
            color=dict(value=GREY),
            tooltip=[
                dict(field='label', title='Scores'),
                dict(field='n', title='Detections', format=',')
            ]))


def score_chart(rows: List[Dict[str, Any]]) -> Spec:
    """Right and wrong detections by score, stacked."""
    return _chart(
        220,
        data=dict(values=rows),
        transform=[
            dict(
                stack='count',
                groupby=['low'],
                sort=[dict(field='kind')],
                **{'as': ['from', 'to']}),
            dict(
                calculate="format(datum.low, '.2f') + ' to ' + "
                "format(datum.high, '.2f')",
                **{'as': 'label'})
        ],
        mark=_BIN,
        encoding=dict(
            x=dict(field='low', **_SCORE_AXIS),
            x2=dict(field='high'),
            y=dict(
                field='from',
                type='quantitative',
                scale=dict(type='sqrt'),
                axis=dict(
                    title='Detections', tickCount=4, format='~s', **_AXIS)),
            y2=dict(field='to'),
            color=_two_colours('kind', ['right', 'wrong'], [BLUE, ORANGE]),
            tooltip=[
                dict(field='label', title='Scores'),
                dict(field='kind', title='Detections'),
                dict(field='count', title='Number', format=',')
            ]))


def threshold_chart(rows: List[Dict[str, Any]], chosen: float) -> Spec:
    """Precision and recall over the score threshold.

    Args:
        rows (list[dict[str, Any]]): Rows from :func:`threshold_curve`.
        chosen (float): Threshold to mark; NaN for none.
    """
    x = dict(
        field='threshold',
        type='quantitative',
        scale=dict(domain=[0, 1], nice=False),
        title='Score threshold')
    tooltip = [
        dict(field='threshold', title='Threshold', format='.2f'),
        dict(field='precision', title='Precision', format='.3f'),
        dict(field='recall', title='Recall', format='.3f'),
        dict(field='detections', title='Detections', format=',')
    ]
    layers = [
        dict(
            transform=[
                dict(
                    fold=['precision', 'recall'], **{'as': ['what', 'value']})
            ],
            mark=dict(type='line', strokeWidth=2.5),
            encoding=dict(
                x=x,
                y=dict(
                    field='value',
                    type='quantitative',
                    scale=dict(domain=[0, 1], nice=False),
                    axis=dict(title='Share', **_AXIS)),
                color=_two_colours('what', ['precision', 'recall'],
                                   [BLUE, ORANGE]),
                strokeDash=dict(
                    field='what',
                    type='nominal',
                    scale=dict(
                        domain=['precision', 'recall'], range=[[1, 0], [7,
                                                                        3]]),
                    legend=dict(title=None, orient='top')))),
        dict(
            params=[
                dict(
                    name='hover',
                    select=dict(
                        type='point',
                        fields=['threshold'],
                        nearest=True,
                        on='pointerover',
                        clear='pointerout'))
            ],
            mark=dict(type='rule', strokeWidth=1),
            encoding=dict(
                x=x,
                color=dict(value=GREY),
                opacity=dict(
                    condition=dict(value=0.8, param='hover', empty=False),
                    value=0),
                tooltip=tooltip)),
    ]
    if chosen == chosen:  # not NaN
        layers.append(
            dict(
                data=dict(values=[dict(threshold=chosen)]),
                mark=dict(type='rule', strokeDash=[4, 3], strokeWidth=1.5),
                encoding=dict(x=x, color=dict(value=GREY))))
    return _chart(240, data=dict(values=rows), layer=layers)


def position_chart(rows: List[Dict[str, Any]],
                   title: str,
                   diverging: bool,
                   limit: Optional[float] = None) -> Spec:
    """Heat map of the image plane.

    Args:
        rows (list[dict[str, Any]]): Rows from :mod:`.error_places`.
        title (str): Title of the colour scale.
        diverging (bool): Whether the colour scale diverges at 0.
        limit (float, optional): Largest absolute value of the colour scale,
            required if ``diverging``. Defaults to None.
    """
    if diverging:
        scale = dict(scheme='blueorange', domain=[-limit, limit])
        value_format = '+.2f'
    else:
        scale = dict(scheme='oranges', domain=[0, 1])
        value_format = '.0%'

    def side(field: str, name: str, sort: str) -> Dict[str, Any]:
        return dict(
            field=field,
            type='quantitative',
            scale=dict(domain=[0, 1], nice=False, reverse=sort == 'down'),
            axis=dict(title=name, values=[0, 0.5, 1], grid=False))

    return _chart(
        260,
        data=dict(values=rows),
        mark=dict(type='rect', strokeWidth=0),
        encoding=dict(
            x=side('x', 'Left to right', 'up'),
            x2=dict(field='x2'),
            y=side('y', 'Top to bottom', 'down'),
            y2=dict(field='y2'),
            color=dict(
                field='value',
                type='quantitative',
                scale=scale,
                legend=dict(
                    title=title,
                    orient='top',
                    format=value_format,
                    gradientLength=180)),
            tooltip=[
                dict(field='value', title=title, format=value_format),
                dict(field='count', title='Boxes', format=',')
            ]))


def bar_chart(rows: List[Dict[str, Any]], label: str, value: str,
              title: str) -> Spec:
    """Horizontal bars in the order of the rows.

    Args:
        rows (list[dict[str, Any]]): Rows with the two fields.
        label (str): Field with the name of a bar.
        value (str): Field with the length of a bar.
        title (str): Title of the horizontal axis.
    """
    return _chart(
        30 * len(rows),
        data=dict(values=rows),
        mark=dict(type='bar', color=ORANGE, cornerRadiusEnd=2),
        encoding=dict(
            y=_named_rows(label),
            x=dict(
                field=value,
                type='quantitative',
                axis=dict(title=title, tickCount=5)),
            tooltip=[
                dict(field=label, title=' '),
                dict(field=value, title=title, format='.4f')
            ]))


def size_chart(rows: List[Dict[str, Any]]) -> Spec:
    """Two bars for each size: missed objects and wrong detections.

    Args:
        rows (list[dict[str, Any]]): Rows from :func:`errors_by_size`.
    """
    titles = ['objects missed', 'detections wrong']
    return _chart(
        60 * len(rows) - 24,
        data=dict(values=[
            dict(size=row['size'], what=quantity, value=row[key])
            for row in rows
            for quantity, key in zip(titles, ('missed', 'false'))
        ]),
        mark=dict(type='bar', cornerRadiusEnd=2),
        encoding=dict(
            y=_named_rows('size'),
            yOffset=dict(field='what', type='nominal', sort=titles),
            x=dict(
                field='value',
                type='quantitative',
                axis=dict(title='Share', tickCount=5, format='.0%')),
            color=_two_colours('what', titles, [ORANGE, BLUE]),
            tooltip=[
                dict(field='size', title='Boxes'),
                dict(field='what', title='Share of'),
                dict(field='value', title=' ', format='.1%')
            ]))


def _named_rows(field: str) -> Dict[str, Any]:
    return dict(
        field=field,
        type='nominal',
        sort=None,
        axis=dict(title=None, labelLimit=200))


def _chart(height: int, **content: Any) -> Spec:
    """Chart as wide as its container; the page sets the text colours."""
    return dict(
        width='container',
        height=height,
        background=None,
        autosize=dict(type='fit-x', contains='padding'),
        config=dict(
            view=dict(stroke=None),
            font='system-ui, sans-serif',
            axis=dict(
                labelFontSize=12,
                titleFontSize=12,
                titleFontWeight=500,
                gridOpacity=0.5,
                domain=False,
                ticks=False,
                labelPadding=6,
                labelFlush=False,
                labelSeparation=4),
            legend=dict(
                labelFontSize=12,
                titleFontSize=12,
                titleFontWeight=500,
                orient='top')),
        **content)


def _two_colours(field: str, domain: List[str],
                 colours: List[str]) -> Dict[str, Any]:
    return dict(
        field=field,
        type='nominal',
        scale=dict(domain=domain, range=colours),
        legend=dict(title=None, orient='top'))


def bin_rows(tables: Sequence[BinTable]) -> List[Dict[str, Any]]:
    """Rows of the bins with detections; ``c`` is -1 for all classes."""
    rows = []
    for c, table in enumerate(tables, ALL_CLASSES):
        for low, high, n, s, t in zip(table.edges[:-1].tolist(),
                                      table.edges[1:].tolist(),
                                      table.count.tolist(),
                                      table.mean_confidence.tolist(),
                                      table.mean_target.tolist()):
            if n:
                rows.append(
                    dict(
                        c=c,
                        low=low,
                        high=high,
                        label=f'{low:.2f} to {high:.2f}',
                        n=n,
                        s=round(s, 5),
                        t=round(t, 5),
                        gap=round(s - t, 5)))
    return rows
