"""`to_model`: a program as an ONNX model in memory."""

import json
from typing import Any

from convgate.engine.precision import precision_of
from convgate.engine.program import Program, decides
from convgate.onnx_export import (  # noqa: F401 -- each registers operations
    activations,
    cells,
    convolutions,
    elementwise,
    integers,
    masks,
    moving,
    norms,
    resizing,
    tables,
    windows,
)
from convgate.onnx_export.graph import BATCH, IR_VERSION, OPSET, Graph
from convgate.onnx_export.operations import check_kinds, written
from convgate.onnx_export.outputs import named_outputs, write_output
from convgate.onnx_export.writer import Writer
from convgate.onnx_export.zeros import closed_channels

__all__ = ["to_model"]


def to_model(program: Program, *, with_masks: bool = False) -> Any:
    """An `onnx.ModelProto` that computes what a program computes; see `export_onnx`.

    Raises `LoweringError` for a program with operations that have no form in ONNX.
    """
    from onnx import TensorProto, helper

    from convgate import __version__

    check_kinds(program)
    inputs = ["images"] if len(program.inputs) == 1 else list(program.inputs)
    outputs, gates = named_outputs(program), program.gates if with_masks else ()
    graph = Graph([])
    inputs = [graph.name(name) for name in inputs]
    names = [graph.name(name) for name, _ in outputs]
    mask_names = {gate.name: graph.name(f"mask.{gate.name}") for gate in gates}
    w = Writer(program, graph, inputs, closed_channels(program))
    for op in program.operations:
        tensor = written(op, w)
        if not decides(op):
            w.write(op.output, tensor)

    def described(name: str, shape: tuple[Any, ...]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])

    taken = [described(name, program.value(value).shape) for name, value in zip(inputs, program.inputs, strict=True)]
    given = [described(name, write_output(w, name, part)) for name, (_, part) in zip(names, outputs, strict=True)]
    for gate in gates:
        graph.output(masks.mask_of(w, gate.name), mask_names[gate.name])
        given.append(described(mask_names[gate.name], gate.shape))
    model = helper.make_model(
        helper.make_graph(graph.nodes(), "convgate", taken, given, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="convgate",
        producer_version=__version__,
    )
    helper.set_model_props(model, _metadata(program, mask_names))
    return model


def _metadata(program: Program, mask_names: dict[str, str]) -> dict[str, str]:
    """Texts that travel in the file: precision, preparation (JSON, if it is known), gates (JSON, by name)."""
    gates = {
        gate.name: {"kind": str(gate.kind), "shape": list(gate.shape), "output": mask_names.get(gate.name)}
        for gate in program.gates
    }
    found = {"convgate.precision": str(precision_of(program)), "convgate.gates": json.dumps(gates)}
    if program.preparation is not None:
        found["convgate.preparation"] = json.dumps(program.preparation.as_data())
    return found
