"""Old names of ``lib.report.diagrams``, until notebook 09 uses it."""

from lib.report.diagrams import arrow as _arrow  # noqa: F401
from lib.report.diagrams import blank as _blank  # noqa: F401
from lib.report.diagrams import block_diagram, model_diagram  # noqa: F401
from lib.report.diagrams import box as _box  # noqa: F401
