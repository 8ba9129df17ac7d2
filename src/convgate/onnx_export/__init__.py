"""Gated networks as ONNX files: the masked network, dense, for runtimes that know nothing of gates.

`export_onnx` writes a program; each kind of operation has its function in one of the files here.
"""

from convgate.onnx_export.export import export_onnx

__all__ = ["export_onnx"]
