"""Run FOLDER/net.cgm in an environment that holds the bare wheel: its outputs and MACs are those of `write_cgm`."""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np

import convgate


def main(folder: Path) -> None:
    installed = {d.name.lower() for d in importlib.metadata.distributions()} - {"pip", "setuptools"}
    assert installed == {"convgate", "numpy", "safetensors"}, installed
    expected = np.load(folder / "expected.npz")
    engine = convgate.engine.load(folder / "net.cgm")
    run = engine.run(expected["images"])
    np.testing.assert_allclose(run.outputs[0], expected["logits"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(run.macs, expected["macs"])
    try:
        convgate.gate  # noqa: B018
    except convgate.ConvgateError as error:
        assert "pip install 'convgate[torch]'" in str(error), error
    else:
        raise AssertionError("convgate.gate needs torch, which is not installed")
    print(f"{engine} runs with {', '.join(sorted(installed))} alone")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
