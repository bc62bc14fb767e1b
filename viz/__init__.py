"""Pictures, and the report page.

Names are loaded at their first use, so that importing this package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "brainmap.viz":
    raise ImportError("import brainmap.viz, not viz")

if TYPE_CHECKING:
    from brainmap.viz.features.acoustics import plot_acoustics as plot_acoustics
    from brainmap.viz.features.activations import plot_activations as plot_activations
    from brainmap.viz.features.attention import (
        plot_cover as plot_cover,
        plot_target_attention as plot_target_attention,
    )
    from brainmap.viz.features.attribution import (
        plot_attribution as plot_attribution,
        plot_occlusion as plot_occlusion,
    )
    from brainmap.viz.features.embedding import plot_embedding as plot_embedding
    from brainmap.viz.features.exemplars import plot_exemplars as plot_exemplars, plot_neighbors as plot_neighbors
    from brainmap.viz.features.faithfulness import (
        plot_deletion as plot_deletion,
        plot_localization as plot_localization,
        plot_randomization as plot_randomization,
    )
    from brainmap.viz.features.maximization import (
        plot_metamers as plot_metamers,
        plot_pattern_comparison as plot_pattern_comparison,
        plot_softmax_saturation as plot_softmax_saturation,
    )
    from brainmap.viz.features.sounds import (
        plot_cam as plot_cam,
        plot_maximization as plot_maximization,
        plot_sound as plot_sound,
    )
    from brainmap.viz.features.units import (
        plot_filters as plot_filters,
        plot_spectra as plot_spectra,
        plot_tuning as plot_tuning,
        plot_tuning_curves as plot_tuning_curves,
    )
    from brainmap.viz.features.voicing import plot_voiced_attention as plot_voiced_attention
    from brainmap.viz.page.methods import methods_paragraph as methods_paragraph
    from brainmap.viz.page.sheet import SheetRow as SheetRow, plot_sheet as plot_sheet
    from brainmap.viz.page.write import (
        PatternPanel as PatternPanel,
        RdmPair as RdmPair,
        ReportContent as ReportContent,
        write_report as write_report,
    )
    from brainmap.viz.rsa.design import plot_design as plot_design
    from brainmap.viz.rsa.partition import plot_partition as plot_partition
    from brainmap.viz.rsa.power import plot_power as plot_power
    from brainmap.viz.rsa.profiles import (
        plot_layer_profile as plot_layer_profile,
        plot_layer_roi_table as plot_layer_roi_table,
    )
    from brainmap.viz.rsa.rdms import (
        plot_correlation_matrix as plot_correlation_matrix,
        plot_rdm as plot_rdm,
        plot_rdm_pair as plot_rdm_pair,
    )
    from brainmap.viz.rsa.surface import plot_surface as plot_surface, plot_surface_maps as plot_surface_maps
    from brainmap.viz.rsa.time_courses import plot_time_course as plot_time_course
    from brainmap.viz.rsa.volume import (
        plot_best_layer as plot_best_layer,
        plot_brain as plot_brain,
        plot_glass_brain as plot_glass_brain,
    )

_HOMES = {
    "features.acoustics": ("plot_acoustics",),
    "rsa.time_courses": ("plot_time_course",),
    "features.voicing": ("plot_voiced_attention",),
    "rsa.rdms": ("plot_rdm", "plot_rdm_pair", "plot_correlation_matrix"),
    "rsa.profiles": ("plot_layer_profile", "plot_layer_roi_table"),
    "features.sounds": ("plot_maximization", "plot_cam", "plot_sound"),
    "features.activations": ("plot_activations",),
    "features.attention": ("plot_target_attention", "plot_cover"),
    "features.attribution": ("plot_attribution", "plot_occlusion"),
    "features.maximization": ("plot_metamers", "plot_pattern_comparison", "plot_softmax_saturation"),
    "rsa.partition": ("plot_partition",),
    "rsa.power": ("plot_power",),
    "rsa.volume": ("plot_brain", "plot_glass_brain", "plot_best_layer"),
    "page.sheet": ("plot_sheet", "SheetRow"),
    "rsa.design": ("plot_design",),
    "page.methods": ("methods_paragraph",),
    "page.write": ("write_report", "ReportContent", "PatternPanel", "RdmPair"),
    "rsa.surface": ("plot_surface", "plot_surface_maps"),
    "features.faithfulness": ("plot_deletion", "plot_localization", "plot_randomization"),
    "features.units": ("plot_filters", "plot_spectra", "plot_tuning", "plot_tuning_curves"),
    "features.exemplars": ("plot_exemplars", "plot_neighbors"),
    "features.embedding": ("plot_embedding",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
