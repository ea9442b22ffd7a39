"""What stands on drawn axes, for tests to compare."""

from matplotlib.collections import LineCollection


def intervals(axes):
    """(low, high) of all lines that stand for intervals, upright or level."""
    collections = [c for c in axes.collections if isinstance(c, LineCollection)]
    segments = [segment for c in collections for segment in c.get_segments() if len(segment)]
    ends = [(x0, x1) if y0 == y1 else (y0, y1) for (x0, y0), (x1, y1) in segments]
    return sorted((round(float(low), 6), round(float(high), 6)) for low, high in ends)
