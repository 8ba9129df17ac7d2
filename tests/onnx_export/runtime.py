"""Running ONNX files, and telling how far results are from each other."""

import numpy as np
import onnxruntime

__all__ = ["distance", "run_file", "session"]


def session(path, optimised=True):
    """ONNX Runtime's session of a file: with all of its optimisations, or node by node as the file says."""
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    # Sums of 8-bit products saturate on x86 without VNNI else, where the file's do not (docs/design/onnx.md).
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_file(path, *images, optimised=True):
    """Outputs by name, in order."""
    ready = session(path, optimised)
    inputs = dict(zip((i.name for i in ready.get_inputs()), images, strict=True))
    return dict(zip((o.name for o in ready.get_outputs()), ready.run(None, inputs), strict=True))


def distance(a, b):
    """Of two arrays, as a share of the second's root mean square."""
    assert a.shape == b.shape
    return np.sqrt(((a - b) ** 2).mean()) / max(np.sqrt((b**2).mean()), 1e-12)
