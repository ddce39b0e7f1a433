"""Mapping and calling compiled artifacts, without llvmlite; the disk cache. Layer 4."""
