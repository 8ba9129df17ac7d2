import pytest
import yaml
from tests.hardware.programs import engine_of, trace_of

from convgate.errors import InputError
from convgate.hardware import accelerator, simulate
from convgate.hardware.export import FORMATS, export

MACHINE = accelerator("scalesim-32", rows=8, columns=8)


def written(method, tool, folder, image=1):
    program = engine_of(method)[0].program
    trace = trace_of(program, 3, 0.4)
    for name, text in export(program, trace, MACHINE, tool, image).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return simulate(program, trace.part(image, image + 1), MACHINE)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_scalesim_reads_our_files_and_finds_our_cycles(tmp_path):
    """Its own loaders and its model of the array; the model of its memory fails with the NumPy of today."""
    pytest.importorskip("scalesim")
    from scalesim.compute.operand_matrix import operand_matrix
    from scalesim.compute.systolic_compute_ws import systolic_compute_ws
    from scalesim.layout_utils import layouts
    from scalesim.scale_config import scale_config
    from scalesim.topology_utils import topologies

    found = written("dual", "scalesim", tmp_path)
    ours = dict(zip([line.name for line in found.gated.lines], found.gated.by_line[0].tolist(), strict=True))
    configuration, layers, layout = scale_config(), topologies(), layouts()
    configuration.read_conf_file(str(tmp_path / "scalesim.cfg"))
    layers.load_arrays(str(tmp_path / "gated.csv"), mnk_inputs=True)
    layout.load_arrays(str(tmp_path / "layout.csv"), mnk_inputs=True)
    assert configuration.get_array_dims() == (8, 8)
    names = layers.get_layer_names()
    assert len(names) > 5
    for number in (0, len(names) // 2, len(names) - 1):
        matrices = operand_matrix()
        matrices.set_params(config_obj=configuration, topoutil_obj=layers, layoututil_obj=layout, layer_id=number)
        operands = [part()[1] for part in (matrices.get_ifmap_matrix, matrices.get_filter_matrix)]
        theirs = systolic_compute_ws()
        theirs.set_params(
            config_obj=configuration,
            ifmap_op_mat=operands[0],
            filter_op_mat=operands[1],
            ofmap_op_mat=matrices.get_ofmap_matrix()[1],
        )
        assert len(theirs.get_demand_matrices()[0]) - 1 == ours[names[number]], names[number]


@pytest.mark.parametrize("method", ["dual", "channel", "global_gater"])
def test_products_have_the_macs_of_the_image(method, tmp_path):
    found = written(method, "scalesim", tmp_path)
    for name, macs in (("gated", found.gated.macs.sum()), ("dense", found.dense.macs.sum())):
        rows = [row.split(",") for row in (tmp_path / f"{name}.csv").read_text().splitlines()[1:]]
        assert all(row[-1] == "" and "DP" not in row[0] and len(row) == 5 for row in rows)
        products = sum(int(m) * int(n) * int(k) for _, m, n, k, _ in rows)
        # Base paths of 8 columns that span several chunks multiply by zeros, too.
        assert products >= macs if method == "channel" and name == "gated" else products == macs


def test_timeloop_problems_are_products(tmp_path):
    found = written("dual", "timeloop", tmp_path)
    problems = [yaml.safe_load(path.read_text())["problem"] for path in sorted((tmp_path / "gated").iterdir())]
    instances = [problem["instance"] for problem in problems]
    assert sum(i["M"] * i["N"] * i["K"] for i in instances) == found.gated.macs.sum()
    for problem in problems:
        assert problem["shape"]["dimensions"] == ["M", "N", "K"]
        assert problem["shape"]["data_spaces"][0]["projection"] == [[["M"]], [["K"]]]


def test_accelergy_files_give_our_energy(tmp_path):
    found = written("dual", "accelergy", tmp_path)
    tables = yaml.safe_load((tmp_path / "ERT.yaml").read_text())["ERT"]["tables"]
    energies = {(t["name"], a["name"]): a["energy"] for t in tables for a in t["actions"]}
    counts = yaml.safe_load((tmp_path / "gated_action_counts.yaml").read_text())["action_counts"]["local"]
    total = sum(energies[c["name"], a["name"]] * a["counts"] for c in counts for a in c["action_counts"])
    assert total == pytest.approx(sum(float(n.sum()) for n in found.picojoules(found.gated).values()))


@pytest.mark.parametrize("tool", FORMATS)
def test_only_images_of_the_trace_are_exported(tool):
    program = engine_of("dual")[0].program
    with pytest.raises(InputError, match="0 to 2"):
        export(program, trace_of(program, 3), MACHINE, tool, 3)
    with pytest.raises(InputError, match="known are"):
        export(program, trace_of(program, 3), MACHINE, "nonsense")
