"""What network and brain share: images, patterns, RDMs, comparison, inference, searchlight, group.

Names are loaded at their first use, so that importing this package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "brainmap.rsa":
    raise ImportError("import brainmap.rsa, not rsa")

if TYPE_CHECKING:
    from brainmap.rsa.comparison.ceilings import (
        NoiseCeiling as NoiseCeiling,
        noise_ceiling as noise_ceiling,
        noise_ceilings as noise_ceilings,
    )
    from brainmap.rsa.comparison.fits import (
        ModelScores as ModelScores,
        fit_weights as fit_weights,
        score_models as score_models,
    )
    from brainmap.rsa.comparison.measures import compare_rdms as compare_rdms, compare_vectors as compare_vectors
    from brainmap.rsa.comparison.partial import (
        compare_rdms_partial as compare_rdms_partial,
        compare_vectors_partial as compare_vectors_partial,
        partial_ceilings as partial_ceilings,
    )
    from brainmap.rsa.comparison.partition import (
        Partition as Partition,
        partition_statistics as partition_statistics,
        partition_variance as partition_variance,
    )
    from brainmap.rsa.comparison.reliability import rdm_reliability as rdm_reliability
    from brainmap.rsa.glm.betas import Betas as Betas, fit_betas as fit_betas
    from brainmap.rsa.glm.confounds import read_confounds as read_confounds
    from brainmap.rsa.glm.design_rdms import design_rdms as design_rdms
    from brainmap.rsa.glm.events import read_events as read_events
    from brainmap.rsa.glm.files import save_betas as save_betas
    from brainmap.rsa.group.adjacency import (
        Neighbors as Neighbors,
        edge_neighbors as edge_neighbors,
        grid_neighbors as grid_neighbors,
        mesh_neighbors as mesh_neighbors,
    )
    from brainmap.rsa.group.enhancement import cluster_mass as cluster_mass, tfce as tfce
    from brainmap.rsa.group.maps import (
        GroupResult as GroupResult,
        group_test as group_test,
        threshold_map as threshold_map,
    )
    from brainmap.rsa.images.files import (
        check_same_grid as check_same_grid,
        grid_tolerance as grid_tolerance,
        image_info as image_info,
        load_image as load_image,
        resample as resample,
        save_image as save_image,
        sub_brick_labels as sub_brick_labels,
    )
    from brainmap.rsa.images.volumes import ImageInfo as ImageInfo, Stat as Stat
    from brainmap.rsa.inference.bootstrap import Bootstrap as Bootstrap, bootstrap as bootstrap
    from brainmap.rsa.inference.crossvalidation import bootstrap_models as bootstrap_models
    from brainmap.rsa.inference.differences import score_differences as score_differences
    from brainmap.rsa.inference.permutation import permutation_test as permutation_test
    from brainmap.rsa.inference.relabeling import relabeling_test as relabeling_test
    from brainmap.rsa.inference.roi_bootstrap import RoiBootstrap as RoiBootstrap, bootstrap_rois as bootstrap_rois
    from brainmap.rsa.inference.scores import (
        score_statistics as score_statistics,
        split_half_best_layer as split_half_best_layer,
    )
    from brainmap.rsa.inference.shared_structure import residual_structure as residual_structure
    from brainmap.rsa.inputs.layouts import (
        RunInputs as RunInputs,
        find_inputs as find_inputs,
        inputs_table as inputs_table,
        load_inputs as load_inputs,
    )
    from brainmap.rsa.patterns.normalize import (
        average_patterns as average_patterns,
        noise_precision as noise_precision,
        normalize_patterns as normalize_patterns,
    )
    from brainmap.rsa.patterns.residuals import Residuals as Residuals, load_residuals as load_residuals
    from brainmap.rsa.patterns.screen import (
        responsive_voxels as responsive_voxels,
        screen_voxels as screen_voxels,
        voxel_reliability as voxel_reliability,
    )
    from brainmap.rsa.patterns.surface import (
        load_surface_patterns as load_surface_patterns,
        load_surface_rois as load_surface_rois,
    )
    from brainmap.rsa.patterns.volume import (
        check_patterns as check_patterns,
        load_patterns as load_patterns,
        select_roi as select_roi,
        voxel_report as voxel_report,
    )
    from brainmap.rsa.rdm.alignment import stack_rdms as stack_rdms
    from brainmap.rsa.rdm.compute import compute_rdms as compute_rdms
    from brainmap.rsa.rdm.files import load_rdms as load_rdms, save_rdms as save_rdms
    from brainmap.rsa.rdm.hypotheses import (
        category_rdm as category_rdm,
        phonetic_rdm as phonetic_rdm,
        read_model_rdms as read_model_rdms,
    )
    from brainmap.rsa.rdm.run_noise import RunNoise as RunNoise
    from brainmap.rsa.regions.labels import (
        AUDITORY_CENTERS as AUDITORY_CENTERS,
        Rois as Rois,
        load_mask as load_mask,
        load_rois as load_rois,
        sphere_rois as sphere_rois,
    )
    from brainmap.rsa.searchlights.ceilings import CeilingMaps as CeilingMaps, ceiling_maps as ceiling_maps
    from brainmap.rsa.searchlights.maps import SearchlightMaps as SearchlightMaps
    from brainmap.rsa.searchlights.surface import (
        SurfaceMaps as SurfaceMaps,
        surface_searchlight as surface_searchlight,
    )
    from brainmap.rsa.searchlights.volume import searchlight as searchlight
    from brainmap.rsa.simulation.bold import SimulatedBold as SimulatedBold, simulate_bold as simulate_bold
    from brainmap.rsa.simulation.participants import (
        SimulatedParticipant as SimulatedParticipant,
        matched_geometry as matched_geometry,
        plant_patterns as plant_patterns,
        simulate_participant as simulate_participant,
    )
    from brainmap.rsa.simulation.power import PowerAnalysis as PowerAnalysis, power_analysis as power_analysis
    from brainmap.rsa.simulation.rdms import simulate_rdms as simulate_rdms
    from brainmap.rsa.simulation.recovery import recovery_table as recovery_table
    from brainmap.rsa.surface.data import (
        SurfaceData as SurfaceData,
        load_surface as load_surface,
        project_to_surface as project_to_surface,
        save_surface as save_surface,
    )
    from brainmap.rsa.surface.discs import Discs as Discs, discs_on as discs_on
    from brainmap.rsa.surface.meshes import Mesh as Mesh, load_mesh as load_mesh, mesh_edges as mesh_edges

_HOMES = {
    "images.volumes": ("ImageInfo", "Stat"),
    "images.files": (
        "load_image", "save_image", "sub_brick_labels", "image_info", "check_same_grid", "grid_tolerance", "resample",
    ),
    "regions.labels": ("Rois", "load_rois", "load_mask", "sphere_rois", "AUDITORY_CENTERS"),
    "patterns.volume": ("load_patterns", "check_patterns", "select_roi", "voxel_report"),
    "inputs.layouts": ("RunInputs", "find_inputs", "inputs_table", "load_inputs"),
    "patterns.normalize": ("average_patterns", "noise_precision", "normalize_patterns"),
    "patterns.screen": ("responsive_voxels", "screen_voxels", "voxel_reliability"),
    "rdm.run_noise": ("RunNoise",),
    "patterns.residuals": ("Residuals", "load_residuals"),
    "glm.betas": ("Betas", "fit_betas"),
    "glm.design_rdms": ("design_rdms",),
    "glm.files": ("save_betas",),
    "glm.events": ("read_events",),
    "glm.confounds": ("read_confounds",),
    "rdm.compute": ("compute_rdms",),
    "rdm.files": ("load_rdms", "save_rdms"),
    "rdm.alignment": ("stack_rdms",),
    "comparison.measures": ("compare_rdms", "compare_vectors"),
    "comparison.partial": ("compare_rdms_partial", "compare_vectors_partial", "partial_ceilings"),
    "comparison.partition": ("Partition", "partition_statistics", "partition_variance"),
    "comparison.fits": ("ModelScores", "fit_weights", "score_models"),
    "rdm.hypotheses": ("category_rdm", "phonetic_rdm", "read_model_rdms"),
    "comparison.ceilings": ("NoiseCeiling", "noise_ceiling", "noise_ceilings"),
    "inference.roi_bootstrap": ("RoiBootstrap", "bootstrap_rois"),
    "inference.crossvalidation": ("bootstrap_models",),
    "inference.differences": ("score_differences",),
    "inference.shared_structure": ("residual_structure",),
    "inference.bootstrap": ("Bootstrap", "bootstrap"),
    "inference.permutation": ("permutation_test",),
    "inference.relabeling": ("relabeling_test",),
    "inference.scores": ("score_statistics", "split_half_best_layer"),
    "searchlights.ceilings": ("CeilingMaps", "ceiling_maps"),
    "searchlights.volume": ("searchlight",),
    "searchlights.maps": ("SearchlightMaps",),
    "searchlights.surface": ("SurfaceMaps", "surface_searchlight"),
    "group.maps": ("GroupResult", "group_test", "threshold_map"),
    "group.enhancement": ("cluster_mass", "tfce"),
    "group.adjacency": ("Neighbors", "edge_neighbors", "grid_neighbors", "mesh_neighbors"),
    "simulation.participants": ("SimulatedParticipant", "matched_geometry", "plant_patterns", "simulate_participant"),
    "surface.discs": ("Discs", "discs_on"),
    "surface.meshes": ("Mesh", "load_mesh", "mesh_edges"),
    "comparison.reliability": ("rdm_reliability",),
    "surface.data": ("SurfaceData", "load_surface", "save_surface", "project_to_surface"),
    "patterns.surface": ("load_surface_patterns", "load_surface_rois"),
    "simulation.bold": ("SimulatedBold", "simulate_bold"),
    "simulation.recovery": ("recovery_table",),
    "simulation.rdms": ("simulate_rdms",),
    "simulation.power": ("PowerAnalysis", "power_analysis"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
