"""The proof that what was served is what is trained on: served vectors, computed again with the knowledge of their moment.

reader --ServedLog--> served vectors --recompute--> the same values? <--oracle-- SQL that shares no code
                                      ^
                                  faults: planted, to see that a difference would be found
"""

from feature_store.proof.compare import Difference, ProofReport
from feature_store.proof.prove import Proof, prove
from feature_store.proof.served_log import ServedLog
from feature_store.proof.served_table import append_served, read_served
from feature_store.proof.verify import Verdict, verify

__all__ = [
    "Difference",
    "Proof",
    "ProofReport",
    "ServedLog",
    "Verdict",
    "append_served",
    "prove",
    "read_served",
    "verify",
]
