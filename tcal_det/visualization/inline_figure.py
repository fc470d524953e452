"""Figure that a notebook shows.

This module imports matplotlib, so it is imported only when a figure is drawn.
"""
import io

from matplotlib.figure import Figure


class InlineFigure(Figure):
    """Figure that a notebook shows as a picture, without pyplot.

    IPython shows other figures as text, unless ``%matplotlib inline`` was
    called.
    """

    def _repr_png_(self) -> bytes:
        """Picture of the figure, for IPython."""
        buffer = io.BytesIO()
        self.savefig(buffer, format='png')
        return buffer.getvalue()
