"""What the network hears: sounds, networks, activations, activation maximization, class activation maps.

Names are loaded at their first use, so that importing this package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "brainmap.features":
    raise ImportError("import brainmap.features, not features")

if TYPE_CHECKING:
    from brainmap.features.activations.acoustics import (
        AcousticModels as AcousticModels,
        acoustic_features as acoustic_features,
    )
    from brainmap.features.activations.extract import (
        Activations as Activations,
        extract_activations as extract_activations,
        open_activations as open_activations,
    )
    from brainmap.features.activations.reduction import Reduction as Reduction
    from brainmap.features.attention.voiced import attention_to_voicing as attention_to_voicing
    from brainmap.features.attention.voiced_shares import (
        VoicedAttention as VoicedAttention,
        voiced_attention as voiced_attention,
    )
    from brainmap.features.attention.words import (
        AttentionCover as AttentionCover,
        CoverSettings as CoverSettings,
        TargetAttention as TargetAttention,
        attention_cover as attention_cover,
        target_attention as target_attention,
    )
    from brainmap.features.attribution.cam import (
        ClassActivationMaps as ClassActivationMaps,
        class_activation_maps as class_activation_maps,
    )
    from brainmap.features.attribution.lrp import (
        Composite as Composite,
        Relevance as Relevance,
        Rule as Rule,
        relevance as relevance,
    )
    from brainmap.features.attribution.methods import Attributions as Attributions, attribute as attribute
    from brainmap.features.evaluation.faithfulness import (
        Agreement as Agreement,
        Curves as Curves,
        deletion_curves as deletion_curves,
        map_agreement as map_agreement,
    )
    from brainmap.features.evaluation.localization import localize as localize
    from brainmap.features.evaluation.randomization import (
        Randomization as Randomization,
        cascading_randomization as cascading_randomization,
    )
    from brainmap.features.layers.tap import Layer as Layer, list_layers as list_layers, tap as tap
    from brainmap.features.maximization.comparison import (
        PatternComparison as PatternComparison,
        compare_patterns as compare_patterns,
        gradient_share as gradient_share,
    )
    from brainmap.features.maximization.decoder import SpeechDecoder as SpeechDecoder, load_decoder as load_decoder
    from brainmap.features.maximization.directions import condition_direction as condition_direction
    from brainmap.features.maximization.maximize import (
        Maximization as Maximization,
        MaximizationSettings as MaximizationSettings,
        maximize_activation as maximize_activation,
    )
    from brainmap.features.maximization.metamers import Metamers as Metamers, match_activation as match_activation
    from brainmap.features.maximization.saturation import (
        SoftmaxSaturation as SoftmaxSaturation,
        softmax_saturation as softmax_saturation,
    )
    from brainmap.features.networks.checkpoints import (
        Checkpoint as Checkpoint,
        load_checkpoint as load_checkpoint,
        load_network as load_network,
        save_checkpoint as save_checkpoint,
    )
    from brainmap.features.networks.controls import control_network as control_network
    from brainmap.features.networks.training import (
        TrainingSettings as TrainingSettings,
        evaluate_network as evaluate_network,
        train_network as train_network,
    )
    from brainmap.features.networks.zoo import (
        build_network as build_network,
        describe_network as describe_network,
        network_names as network_names,
    )
    from brainmap.features.representations.features import (
        Representation as Representation,
        map_features as map_features,
        pattern_features as pattern_features,
        pattern_reliability as pattern_reliability,
    )
    from brainmap.features.sounds.files import Sounds as Sounds, load_sounds as load_sounds
    from brainmap.features.sounds.voicing import Voicing as Voicing, find_voicing as find_voicing
    from brainmap.features.units.embedding import Embedding as Embedding, embed as embed
    from brainmap.features.units.exemplars import Exemplars as Exemplars, find_exemplars as find_exemplars
    from brainmap.features.units.filters import (
        Filters as Filters,
        Spectra as Spectra,
        layer_filters as layer_filters,
        pattern_spectra as pattern_spectra,
    )
    from brainmap.features.units.nearest_sounds import Neighbors as Neighbors, nearest_neighbors as nearest_neighbors
    from brainmap.features.units.tuning import (
        Tuning as Tuning,
        TuningSettings as TuningSettings,
        measure_tuning as measure_tuning,
    )

_HOMES = {
    "activations.acoustics": ("AcousticModels", "acoustic_features"),
    "attention.voiced_shares": ("VoicedAttention", "voiced_attention"),
    "attention.voiced": ("attention_to_voicing",),
    "sounds.voicing": ("Voicing", "find_voicing"),
    "sounds.files": ("Sounds", "load_sounds"),
    "networks.zoo": ("build_network", "network_names", "describe_network"),
    "networks.checkpoints": ("Checkpoint", "load_checkpoint", "load_network", "save_checkpoint"),
    "networks.training": ("TrainingSettings", "train_network", "evaluate_network"),
    "layers.tap": ("Layer", "list_layers", "tap"),
    "activations.extract": ("Activations", "extract_activations", "open_activations"),
    "maximization.maximize": ("Maximization", "MaximizationSettings", "maximize_activation"),
    "maximization.directions": ("condition_direction",),
    "maximization.decoder": ("SpeechDecoder", "load_decoder"),
    "maximization.metamers": ("Metamers", "match_activation"),
    "maximization.saturation": ("SoftmaxSaturation", "softmax_saturation"),
    "maximization.comparison": ("PatternComparison", "compare_patterns", "gradient_share"),
    "networks.controls": ("control_network",),
    "activations.reduction": ("Reduction",),
    "attention.words": (
        "AttentionCover", "CoverSettings", "TargetAttention", "attention_cover", "target_attention",
    ),
    "attribution.cam": ("ClassActivationMaps", "class_activation_maps"),
    "representations.features": ("Representation", "map_features", "pattern_features", "pattern_reliability"),
    "attribution.methods": ("Attributions", "attribute"),
    "attribution.lrp": ("Composite", "Relevance", "Rule", "relevance"),
    "evaluation.faithfulness": ("Agreement", "Curves", "deletion_curves", "map_agreement"),
    "evaluation.randomization": ("Randomization", "cascading_randomization"),
    "evaluation.localization": ("localize",),
    "units.filters": ("Filters", "Spectra", "layer_filters", "pattern_spectra"),
    "units.tuning": ("Tuning", "TuningSettings", "measure_tuning"),
    "units.exemplars": ("Exemplars", "find_exemplars"),
    "units.nearest_sounds": ("Neighbors", "nearest_neighbors"),
    "units.embedding": ("Embedding", "embed"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
