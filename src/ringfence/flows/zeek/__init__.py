"""Zeek connection logs: tab-separated with `#` headers, and JSON lines; plain or gzip.

Fields: https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html
"""

from ringfence.flows.zeek.source import Zeek

__all__ = ["Zeek"]
