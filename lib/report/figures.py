"""Old names of ``lib.report.plots``, until notebook 09 uses it."""

from lib.report import style as _style
from lib.report.style import save  # noqa: F401


def style(dpi: int | None = None) -> None:
    _style.style()
