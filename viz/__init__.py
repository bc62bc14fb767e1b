"""Pictures, and the report page.

Names are loaded at their first use, so that importing this package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "brainmap.viz":
    raise ImportError("import brainmap.viz, not viz")

if TYPE_CHECKING:
    from brainmap.viz.rdms import plot_rdm as plot_rdm, plot_rdm_pair as plot_rdm_pair
    from brainmap.viz.profiles import plot_layer_profile as plot_layer_profile, plot_layer_roi_table as plot_layer_roi_table
    from brainmap.viz.sounds import plot_maximization as plot_maximization, plot_cam as plot_cam, plot_sound as plot_sound
    from brainmap.viz.brain import plot_brain as plot_brain, plot_glass_brain as plot_glass_brain
    from brainmap.viz.sheet import plot_sheet as plot_sheet
    from brainmap.viz.report import write_report as write_report

_HOMES = {
    "rdms": ("plot_rdm", "plot_rdm_pair"),
    "profiles": ("plot_layer_profile", "plot_layer_roi_table"),
    "sounds": ("plot_maximization", "plot_cam", "plot_sound"),
    "brain": ("plot_brain", "plot_glass_brain"),
    "sheet": ("plot_sheet",),
    "report": ("write_report",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
