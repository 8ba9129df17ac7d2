"""What the pages on methods show works as written."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    examples = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert examples
    for code in examples:
        exec(compile(code, str(page), "exec"), scope)


def test_the_weights_of_the_authors_of_cgnet_are_loaded_as_shown(tmp_path):
    import torch

    scope: dict = {}
    for code in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/methods/channel-gating.md").read_text(), flags=re.DOTALL
    ):
        exec(compile(code, "channel-gating.md", "exec"), scope)
    net, state = scope["net"], {}
    for key, value in net.state_dict().items():
        gate = re.fullmatch(r"gates\.gates\.(.+)\.activation\.(?:head\.)?(.+)", key)
        if gate is None:
            state[key.replace("fc.", "linear.")] = value + 1
        elif gate[2] == "threshold":
            state[f"{gate[1]}.threshold"] = value.view(1, -1, 1, 1) + 1
        elif gate[2] != "offset":
            state[f"{gate[1]}.{gate[2].replace('norm.', 'bn.')}"] = value + 1
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    before = {key: value.clone() for key, value in net.state_dict().items() if not key.endswith("offset")}
    scope["use"](tmp_path / "theirs.pth")
    assert all(torch.equal(net.state_dict()[key], value + 1) for key, value in before.items())
