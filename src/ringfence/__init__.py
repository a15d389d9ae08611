"""Ringfence: observe, propose, prove, simulate and enforce identity-based micro-segmentation."""

__version__ = "0.1.0"
