from .features.accuracy import plot_accuracy as plot_accuracy
from .features.acoustics import plot_acoustics as plot_acoustics
from .features.activations import plot_activations as plot_activations
from .features.attention import (
    plot_cover as plot_cover,
    plot_encoder_maps as plot_encoder_maps,
    plot_target_attention as plot_target_attention,
)
from .features.attribution import plot_attribution as plot_attribution, plot_occlusion as plot_occlusion
from .features.class_maps import plot_class_maps as plot_class_maps
from .features.embedding import plot_embedding as plot_embedding
from .features.evaluation import (
    plot_deletion as plot_deletion,
    plot_localization as plot_localization,
    plot_predicted_sounds as plot_predicted_sounds,
    plot_randomization as plot_randomization,
)
from .features.exemplars import plot_exemplars as plot_exemplars, plot_neighbors as plot_neighbors
from .features.maximization import (
    plot_metamers as plot_metamers,
    plot_pattern_comparison as plot_pattern_comparison,
    plot_softmax_saturation as plot_softmax_saturation,
)
from .features.patterns import plot_maximization as plot_maximization
from .features.players import Players as Players, play_sounds as play_sounds
from .features.priors import plot_prior_comparison as plot_prior_comparison
from .features.relevance import plot_relevance as plot_relevance
from .features.sounds import plot_cam as plot_cam, plot_sound as plot_sound
from .features.units import (
    plot_filters as plot_filters,
    plot_spectra as plot_spectra,
    plot_tuning as plot_tuning,
    plot_tuning_curves as plot_tuning_curves,
)
from .features.voicing import plot_voiced_attention as plot_voiced_attention
from .page.content import PatternPanel as PatternPanel, RdmPair as RdmPair, ReportContent as ReportContent
from .page.methods import methods_paragraph as methods_paragraph
from .page.sheet import SheetRow as SheetRow, plot_sheet as plot_sheet
from .page.write import write_report as write_report
from .rsa.design import plot_design as plot_design
from .rsa.encoding import plot_delays as plot_delays
from .rsa.partition import plot_partition as plot_partition
from .rsa.power import plot_power as plot_power
from .rsa.profiles import plot_layer_profile as plot_layer_profile, plot_layer_roi_table as plot_layer_roi_table
from .rsa.rdms import (
    plot_correlation_matrix as plot_correlation_matrix,
    plot_rdm as plot_rdm,
    plot_rdm_pair as plot_rdm_pair,
)
from .rsa.surface import plot_surface as plot_surface, plot_surface_maps as plot_surface_maps
from .rsa.time_courses import plot_time_course as plot_time_course
from .rsa.volume import (
    plot_best_layer as plot_best_layer,
    plot_brain as plot_brain,
    plot_glass_brain as plot_glass_brain,
    plot_regions as plot_regions,
)
from .style import Picture as Picture
