from .activations.acoustics import AcousticModels as AcousticModels, acoustic_features as acoustic_features
from .activations.extract import extract_activations as extract_activations
from .activations.reduction import Reduction as Reduction
from .activations.speech import speech_features as speech_features
from .activations.stored import Activations as Activations, open_activations as open_activations
from .attention.encoders import EncoderMaps as EncoderMaps, map_encoder as map_encoder
from .attention.voiced import attention_to_voicing as attention_to_voicing
from .attention.voiced_shares import VoicedAttention as VoicedAttention, voiced_attention as voiced_attention
from .attention.words import (
    AttentionCover as AttentionCover,
    CoverSettings as CoverSettings,
    TargetAttention as TargetAttention,
    attention_cover as attention_cover,
    target_attention as target_attention,
)
from .attribution.audible import hear_relevance as hear_relevance
from .attribution.cam import class_activation_maps as class_activation_maps
from .attribution.lrp import Relevance as Relevance, relevance as relevance
from .attribution.lrp_rules import Composite as Composite, Rule as Rule
from .attribution.methods import attribute as attribute
from .attribution.results import Attributions as Attributions, ClassActivationMaps as ClassActivationMaps
from .evaluation.controversial import (
    Controversial as Controversial,
    pick_controversial as pick_controversial,
    save_stimuli as save_stimuli,
)
from .evaluation.faithfulness import (
    Agreement as Agreement,
    Curves as Curves,
    deletion_curves as deletion_curves,
    map_agreement as map_agreement,
)
from .evaluation.judges import (
    Judge as Judge,
    judge_maximization as judge_maximization,
    judge_patterns as judge_patterns,
    load_judges as load_judges,
)
from .evaluation.localization import localize as localize
from .evaluation.priors import PriorComparison as PriorComparison, compare_priors as compare_priors
from .evaluation.randomization import Randomization as Randomization, cascading_randomization as cascading_randomization
from .evaluation.regions import (
    Encoder as Encoder,
    RegionSounds as RegionSounds,
    load_encoder as load_encoder,
    maximize_regions as maximize_regions,
)
from .evaluation.synthesis import synthesize_controversial as synthesize_controversial
from .layers.ear import tap as tap
from .layers.layer import Layer as Layer
from .layers.listing import list_layers as list_layers
from .maximization.comparison import (
    PatternComparison as PatternComparison,
    compare_patterns as compare_patterns,
    gradient_share as gradient_share,
)
from .maximization.decoder import SpeechDecoder as SpeechDecoder, load_decoder as load_decoder
from .maximization.decoder_training import DecoderTraining as DecoderTraining, train_decoder as train_decoder
from .maximization.directions import condition_direction as condition_direction
from .maximization.maximize import Maximization as Maximization, maximize_activation as maximize_activation
from .maximization.metamers import Metamers as Metamers, match_activation as match_activation
from .maximization.saturation import SoftmaxSaturation as SoftmaxSaturation, softmax_saturation as softmax_saturation
from .maximization.settings import MaximizationSettings as MaximizationSettings
from .networks.accuracy import AccuracyTable as AccuracyTable, train_accuracy_table as train_accuracy_table
from .networks.architectures import network_names as network_names
from .networks.checkpoints import load_network as load_network, save_checkpoint as save_checkpoint
from .networks.controls import control_network as control_network
from .networks.description import Checkpoint as Checkpoint, load_checkpoint as load_checkpoint
from .networks.readout import Ensemble as Ensemble, readout_network as readout_network
from .networks.targets import find_targets as find_targets
from .networks.training import (
    TrainingSettings as TrainingSettings,
    evaluate_network as evaluate_network,
    train_network as train_network,
)
from .networks.zoo import build_network as build_network, describe_network as describe_network
from .representations.features import (
    Representation as Representation,
    map_features as map_features,
    pattern_features as pattern_features,
    pattern_reliability as pattern_reliability,
)
from .sounds.files import Sounds as Sounds, load_sounds as load_sounds
from .sounds.front_ends import FrontEnd as FrontEnd, read_front_end as read_front_end
from .sounds.voicing import Voicing as Voicing, find_voicing as find_voicing
from .sounds.windows import Windows as Windows, cut_windows as cut_windows
from .sounds.word_times import read_word_times as read_word_times
from .units.embedding import Embedding as Embedding, embed as embed
from .units.exemplars import Exemplars as Exemplars, find_exemplars as find_exemplars
from .units.filters import (
    Filters as Filters,
    Spectra as Spectra,
    layer_filters as layer_filters,
    pattern_spectra as pattern_spectra,
)
from .units.nearest_sounds import Neighbors as Neighbors, nearest_neighbors as nearest_neighbors
from .units.picture_filters import PictureFilters as PictureFilters, picture_filters as picture_filters
from .units.tuning import Tuning as Tuning, TuningSettings as TuningSettings, measure_tuning as measure_tuning
