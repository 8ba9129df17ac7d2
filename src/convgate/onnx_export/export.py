"""`convgate.export_onnx`: a gated network as an ONNX file, for other runtimes."""

from os import PathLike
from pathlib import Path

from convgate.engine.check import check
from convgate.engine.engine import Engine
from convgate.engine.program import Program
from convgate.errors import InputError, LoweringError
from convgate.extras import missing
from convgate.files import check_target, replacing

__all__ = ["export_onnx"]

_MOST = 2**31 - 2**24
"""Bytes of constants; a file of its format ends at 2 GB."""


def export_onnx(source: Engine | Program, path: str | PathLike[str], *, masks: bool = False) -> None:
    """Write what an engine computes as an ONNX file (opset 17), complete or not at all.

    Everything is computed and what gates close is multiplied by zero: results are the engine's, to rounding, and no
    work is saved. Networks of 8-bit integers (`convgate.quantize`) are written with QuantizeLinear and DequantizeLinear
    around float convolutions, with zero points of 0; their results differ by roundings. On x86 without VNNI, ONNX
    Runtime's sums of 8-bit products saturate unless its session is made with
    `options.add_session_config_entry("session.x64quantprecision", "1")`. Of networks in bfloat16 the file has the
    rounded weights as float32, and maps are float32. See `docs/design/onnx.md`.

    Inputs are float32 [N, C, H, W], of the size that the network was compiled for; the number of samples is free. One
    input is called "images", several as in the program. Outputs are those of `Engine.run`, float32, in that order: one
    is called "output", several "output_0", .., or by the keys of the network's dict. How images are prepared, if it is
    known, stands as JSON in the metadata "convgate.preparation", with the classes' names.

    Args:
        source: an engine, of `convgate.compile`, `convgate.quantize` or `convgate.engine.load`, or its program.
        path: the file to write.
        masks: give the gates' decisions, too: for each gate an output "mask.NAME", float32 0 and 1 [N, *shape of gate].

    Raises:
        LoweringError: PyTorch computes operations of the network (`fallback="torch"`); all of them are named.
        InputError: the path cannot be written, `source` is something else, or the file would not hold the weights.
        ProgramError: the program does not hold together.
        MissingDependencyError: the package `onnx` is not installed.

    >>> import torch, convgate
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    >>> export_onnx(convgate.compile(net, torch.zeros(1, 3, 8, 8)), "net.onnx")
    >>> import onnx
    >>> [node.op_type for node in onnx.load("net.onnx").graph.node]
    ['Conv', 'Relu']

    """
    program = source.program if isinstance(source, Engine) else source
    if not isinstance(program, Program):
        raise InputError(
            f"export_onnx() takes an engine or a program, not a {type(source).__name__}; call "
            "convgate.compile(network) or convgate.engine.load(FILE)"
        )
    path = Path(path)
    check_target(path)
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise (missing(error) or error) from error
    from convgate.onnx_export.model import to_model

    check(program)
    model = to_model(program, with_masks=masks)
    if model.ByteSize() > _MOST:
        raise InputError(
            f"an ONNX file holds 2 GB, and the constants of this network are {model.ByteSize() / 1e9:.1f} GB; quantise "
            "the network, or export a smaller one"
        )
    content = model.SerializeToString()
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise LoweringError(f"the network has no valid form in ONNX; this is a bug of convgate's: {error}") from error
    with replacing(path) as temporary:
        temporary.write_bytes(content)
