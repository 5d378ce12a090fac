"""From a failure (or a result) to its verdict; the tables of what means what are in here."""

from penstock.classify.chain import Answer, Classifier, chain
from penstock.classify.default import classify
from penstock.classify.guarded import Guarded, as_verdict
from penstock.classify.status import classify_result

__all__ = ["Answer", "Classifier", "Guarded", "as_verdict", "chain", "classify", "classify_result"]
