"""The engine: who may talk to whom, indexed. The one evaluator (law 8); `core.decide` exists to check it.

peers      every distinct selector, CIDR, word and name of the policies
classes    what an end can be: (identity, address peers that contain its address, controlled or not)
atoms      service points that no rule tells apart
relation   rule bitmaps over classes and atoms: "which rule decides this?"
matrix     interned connection sets over class pairs: "what may pass?", for proof, diff and reach
"""

from ringfence.core.engine.engine import Engine
from ringfence.core.engine.judgement import Judgement
from ringfence.core.engine.rules import RuleRef

__all__ = ["Engine", "Judgement", "RuleRef"]
