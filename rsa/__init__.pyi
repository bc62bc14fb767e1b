from .comparison.ceilings import (
    NoiseCeiling as NoiseCeiling,
    noise_ceiling as noise_ceiling,
    noise_ceilings as noise_ceilings,
)
from .comparison.fits import ModelScores as ModelScores, fit_weights as fit_weights, score_models as score_models
from .comparison.measures import compare_rdms as compare_rdms, compare_vectors as compare_vectors
from .comparison.partial import (
    compare_rdms_partial as compare_rdms_partial,
    compare_vectors_partial as compare_vectors_partial,
    partial_ceilings as partial_ceilings,
)
from .comparison.partition import Partition as Partition, partition_variance as partition_variance
from .comparison.reliability import rdm_reliability as rdm_reliability
from .encoding.bands import BandedEncoding as BandedEncoding, encode_bands as encode_bands
from .encoding.best_layers import BestLayers as BestLayers, best_encoding_layers as best_encoding_layers
from .encoding.cka import linear_cka as linear_cka
from .encoding.dimensionality import effective_dimensionality as effective_dimensionality
from .encoding.encode import Encoding as Encoding, encode as encode
from .encoding.fits import LayerWeights as LayerWeights
from .encoding.group import (
    encoding_group_test as encoding_group_test,
    encoding_network_test as encoding_network_test,
)
from .encoding.maps import map_bands as map_bands, map_encoding as map_encoding
from .encoding.participants import encoding_statistics as encoding_statistics
from .encoding.permutations import encoding_test as encoding_test
from .encoding.positions import position_test as position_test
from .encoding.stories import encode_stories as encode_stories
from .encoding.story_bands import encode_story_bands as encode_story_bands
from .encoding.story_ceilings import story_ceilings as story_ceilings
from .encoding.story_patterns import (
    Segments as Segments,
    join_windows as join_windows,
    story_patterns as story_patterns,
)
from .glm.betas import Betas as Betas, design_rdms as design_rdms, fit_betas as fit_betas
from .glm.confounds import read_confounds as read_confounds
from .glm.events import read_events as read_events
from .glm.files import save_betas as save_betas
from .group.adjacency import (
    Neighbors as Neighbors,
    edge_neighbors as edge_neighbors,
    grid_neighbors as grid_neighbors,
    mesh_neighbors as mesh_neighbors,
)
from .group.enhancement import cluster_mass as cluster_mass, tfce as tfce
from .group.maps import GroupResult as GroupResult, group_test as group_test, threshold_map as threshold_map
from .images.files import (
    check_same_grid as check_same_grid,
    grid_tolerance as grid_tolerance,
    image_info as image_info,
    load_image as load_image,
    save_image as save_image,
    sub_brick_labels as sub_brick_labels,
)
from .images.resampling import resample as resample
from .images.volumes import ImageInfo as ImageInfo, Stat as Stat
from .inference.best_layers import best_layer_differences as best_layer_differences
from .inference.bootstrap import Bootstrap as Bootstrap, bootstrap as bootstrap
from .inference.crossvalidation import bootstrap_models as bootstrap_models
from .inference.differences import score_differences as score_differences
from .inference.halves import split_half_best_layer as split_half_best_layer
from .inference.partition import partition_statistics as partition_statistics
from .inference.permutation import permutation_test as permutation_test
from .inference.relabeling import relabeling_test as relabeling_test
from .inference.roi_bootstrap import RoiBootstrap as RoiBootstrap, bootstrap_rois as bootstrap_rois
from .inference.scores import score_statistics as score_statistics
from .inference.shared_structure import residual_structure as residual_structure
from .inputs.layouts import find_inputs as find_inputs, inputs_table as inputs_table, load_inputs as load_inputs
from .inputs.runs import RunInputs as RunInputs
from .inputs.stories import Stories as Stories, load_stories as load_stories
from .patterns.normalize import average_patterns as average_patterns, normalize_patterns as normalize_patterns
from .patterns.region_tables import (
    VoxelRois as VoxelRois,
    load_column_rois as load_column_rois,
    load_voxel_rois as load_voxel_rois,
)
from .patterns.residuals import Residuals as Residuals, load_residuals as load_residuals
from .patterns.response_tables import load_response_table as load_response_table
from .patterns.screen import (
    responsive_voxels as responsive_voxels,
    screen_voxels as screen_voxels,
    voxel_reliability as voxel_reliability,
)
from .patterns.surface import load_surface_patterns as load_surface_patterns
from .patterns.volume import (
    check_patterns as check_patterns,
    load_patterns as load_patterns,
    voxel_report as voxel_report,
)
from .rdm.alignment import leave_out_pairs_within as leave_out_pairs_within, stack_rdms as stack_rdms
from .rdm.compute import compute_rdms as compute_rdms
from .rdm.dissimilarity import compute_dissimilarities as compute_dissimilarities
from .rdm.files import load_rdms as load_rdms, save_rdms as save_rdms
from .rdm.hypotheses import (
    category_rdm as category_rdm,
    phonetic_rdm as phonetic_rdm,
    read_model_rdms as read_model_rdms,
)
from .rdm.run_noise import RunNoise as RunNoise, noise_precision as noise_precision
from .rdm.sources import select_roi as select_roi
from .regions.centers import sphere_rois as sphere_rois
from .regions.labels import load_rois as load_rois
from .regions.rois import AUDITORY_CENTERS as AUDITORY_CENTERS, Rois as Rois, load_mask as load_mask
from .searchlights.ceilings import CeilingMaps as CeilingMaps, ceiling_maps as ceiling_maps
from .searchlights.maps import SearchlightMaps as SearchlightMaps
from .searchlights.surface import SurfaceMaps as SurfaceMaps, surface_searchlight as surface_searchlight
from .searchlights.volume import searchlight as searchlight
from .simulation.bold import SimulatedBold as SimulatedBold, simulate_bold as simulate_bold
from .simulation.choice import ChosenItems as ChosenItems, choose_items as choose_items
from .simulation.participants import (
    SimulatedParticipant as SimulatedParticipant,
    matched_geometry as matched_geometry,
    plant_patterns as plant_patterns,
    simulate_participant as simulate_participant,
)
from .simulation.power import PowerAnalysis as PowerAnalysis, power_analysis as power_analysis
from .simulation.rdms import simulate_rdms as simulate_rdms
from .simulation.recovery import recovery_table as recovery_table
from .surface.data import (
    SurfaceData as SurfaceData,
    load_surface as load_surface,
    project_to_surface as project_to_surface,
    save_surface as save_surface,
)
from .surface.discs import Discs as Discs, discs_on as discs_on
from .surface.meshes import Mesh as Mesh, load_mesh as load_mesh, mesh_edges as mesh_edges
from .surface.rois import load_surface_rois as load_surface_rois
