"""From a failure (or a result) to its verdict; the tables of what means what are in here."""

from penstock.classify.chain import Answer, Classifier, as_verdict, chain
from penstock.classify.default import classify
from penstock.classify.status import advised, classify_result

__all__ = ["Answer", "Classifier", "advised", "as_verdict", "chain", "classify", "classify_result"]
