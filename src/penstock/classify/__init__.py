"""From a failure (or a result) to its verdict; the tables of what means what are in here."""

from penstock.classify.chain import Answer, Classifier, Classify, chain, classifiers_of
from penstock.classify.default import classify
from penstock.classify.guarded import Guarded, as_verdict
from penstock.classify.named import judging_results
from penstock.classify.presets import PresetName, preset_named, presets_for
from penstock.classify.status import classify_result

__all__ = [
    "Answer",
    "Classifier",
    "Classify",
    "Guarded",
    "PresetName",
    "as_verdict",
    "chain",
    "classifiers_of",
    "classify",
    "classify_result",
    "judging_results",
    "preset_named",
    "presets_for",
]
