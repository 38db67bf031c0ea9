"""Teaching methods: what guides a network besides the labels. One file per method; this module imports no torch."""

from typing import TYPE_CHECKING

from rtseg.core.registry import Registry

if TYPE_CHECKING:
    from rtseg.training.distill.base import MethodConfig

__all__ = ["METHODS", "SUMMARIES"]

_TABLE = {  # name -> (config, what `--teaching list` says)
    "logits": ("logits:LogitsConfig", "the teacher's softened probabilities of every pixel (Hinton 2015)"),
    "mimic": ("mimic:MimicConfig", "its logits, by squared distance (Ba and Caruana 2014)"),
    "cwd": ("cwd:CwdConfig", "where in the picture each channel is high (channel-wise, Shu 2021)"),
    "features": ("features:FeaturesConfig", "logits, and the direction of what its classifier sees"),
    "fitnet": ("fitnet:FitNetConfig", "its features, by squared distance (FitNets, Romero 2015)"),
    "at": ("at:AtConfig", "where its features are strong (attention transfer, Zagoruyko 2017)"),
    "vid": ("vid:VidConfig", "its features, with a variance for each channel (Ahn 2019)"),
    "ft": ("ft:FtConfig", "factors that an auto-encoder finds in its features (factor transfer, Kim 2018)"),
    "ab": ("ab:AbConfig", "which of its neurons are active (activation boundaries, Heo 2019)"),
    "fsp": ("fsp:FspConfig", "how two of its features go together (flow of solution, Yim 2017)"),
    "nst": ("nst:NstConfig", "the distribution of its channels' maps (neuron selectivity, Huang 2017)"),
    "sp": ("sp:SpConfig", "which places of a batch look alike to it (similarity, Tung 2019)"),
    "cc": ("cc:CcConfig", "how its classes correlate (correlation congruence, Peng 2019)"),
    "rkd": ("rkd:RkdConfig", "distances and angles between places (relational, Park 2019)"),
    "pkt": ("pkt:PktConfig", "the probability that two places are neighbours (Passalis 2018)"),
    "ifvd": ("ifvd:IfvdConfig", "how close each pixel is to the centre of its class (Wang 2020)"),
    "bss": ("bss:BssConfig", "its probabilities on pictures moved to its class borders (Heo 2019)"),
    "gan": ("gan:GanConfig", "a discriminator must not tell the student's labels from its (Xu 2018)"),
    "dafl": ("dafl:DaflConfig", "without any picture: on those that a generator makes for it (Chen 2019)"),
    "byot": ("byot:ByotConfig", "no teacher: early exits learn from the last one (be your own teacher, Zhang 2019)"),
    "cs-kd": ("cs_kd:CsKdConfig", "no teacher: pixels of a class agree across pictures (Yun 2020)"),
    "ddsd": ("ddsd:DdsdConfig", "no teacher: two distortions of a picture agree (Xu and Liu 2019)"),
    "dml": ("dml:DmlConfig", "no teacher: networks that start apart teach one another (mutual learning, Zhang 2018)"),
    "grafting": ("grafting:GraftingConfig", "no teacher: networks take over each other's filters (Meng 2020)"),
}

METHODS: Registry[type["MethodConfig"]] = Registry(
    "way of teaching", {name: f"rtseg.training.distill.{config}" for name, (config, _) in _TABLE.items()}
)
SUMMARIES = {name: summary for name, (_, summary) in _TABLE.items()}
