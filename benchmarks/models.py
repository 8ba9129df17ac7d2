"""Gate architectures drawn at random from torchvision and timm, and check on each that what is promised holds.

    python benchmarks/models.py draw --seed 2026 --count 160   # which architectures, methods and seeds: written once
    python benchmarks/models.py run                            # continues where it stopped
    python benchmarks/models.py run --part 0/2 & python benchmarks/models.py run --part 1/2   # two side by side
    python benchmarks/models.py run --again wrong,crash        # those of these outcomes anew
    python benchmarks/models.py page                           # docs/models.md, from the record

Each architecture is built with random weights, gated by a method that is drawn, too, and checked in a process of its
own, with limits of time and memory:

1. with all gates open it computes what the original computes, to 1e-5;
2. its ledger's dense MACs are those that `torch.utils.flop_counter` and the formulas of `convgate.cost.formulas` count
   while the original runs;
3. with random masks, convgate's engine (and PyTorch, for what has no native form) computes what the gated network
   computes, to 1e-4, and executes the MACs that its ledger says;
4. every line of the ledger stands in the plan, in a site or as skipped.

Both tolerances are relative to the largest absolute value of the output. The record, `results/models.jsonl`, has one
line for the draw and one for each run; an architecture's last line counts.
"""

import argparse
import copy
import json
import multiprocessing
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from records import RESULTS, machine
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import convgate
from convgate import ConvgateError
from convgate.cost.formulas import flop_formulas
from convgate.errors import PlanError
from convgate.methods import Method
from convgate.models import create_model, model_input

RECORD = RESULTS / "models.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "models.md"

OUTCOMES = ("ok", "refused", "wrong", "crash", "time", "memory")
METHODS = {
    "DualGating": lambda: convgate.DualGating(),
    "DualGating, channels everywhere": lambda: convgate.DualGating(where="everywhere"),
    "DualGating, tiles alone": lambda: convgate.DualGating(channel=False),
    "BatchShaping": lambda: convgate.BatchShaping(),
    "ChannelGating": lambda: convgate.ChannelGating(),
    "LayerSkipping": lambda: convgate.LayerSkipping(),
}
MOST_PARAMETERS = 100_000_000
LEAST_CONVOLUTIONS = 8
SIDE = 96
BATCH = 2
OPEN_TOLERANCE, ENGINE_TOLERANCE = 1e-5, 1e-4


# -- which architectures


def is_convolutional(model: nn.Module) -> bool:
    """At least 8 convolutions whose windows overlap: patch embeddings and 1x1 convolutions do not make a CNN."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    return sum(c.kernel_size > c.stride for c in convolutions) >= LEAST_CONVOLUTIONS


def drawn(seed: int, count: int) -> list[dict[str, Any]]:
    """`count` architectures at random, one of four from torchvision and the others from timm, each with its method."""
    chance = random.Random(seed)
    pools = {
        "torchvision": torchvision.models.list_models(module=torchvision.models),
        "timm": [f"timm/{name}" for name in timm.list_models()],
    }
    shares = {"torchvision": count // 4, "timm": count - count // 4}
    chosen = []
    for pool, names in pools.items():
        chance.shuffle(names)
        chosen += suitable(names, shares[pool])
    return [
        {"name": name, "method": chance.choice(list(METHODS)), "seed": chance.getrandbits(31)}
        for name in sorted(chosen)
    ]


def suitable(names: list[str], count: int) -> list[str]:
    """The first `count` of the names that are convolutional and not too large."""
    found = []
    for name in names:
        if len(found) == count:
            break
        try:
            with torch.device("meta"):
                model = create_model(name)
        except NotImplementedError:  # a builder that computes with tensors
            model = create_model(name)
        if is_convolutional(model) and sum(p.numel() for p in model.parameters()) <= MOST_PARAMETERS:
            found.append(name)
    return found


# -- what is checked


class WrongError(Exception):
    """A promise that an architecture breaks."""


@torch.no_grad()
def examine(name: str, method: str, seed: int) -> Iterator[dict[str, Any]]:
    """Facts about one architecture, piece by piece, so that what was found before a failure is kept."""
    torch.manual_seed(seed)
    model = create_model(name).eval()
    images = images_for(model, name)
    yield {"parameters": sum(p.numel() for p in model.parameters()), "input": list(images.shape[1:])}
    network = gated(model, METHODS[method](), images).eval()
    layers = network.ledger.layers
    yield {
        "macs": network.ledger.dense,
        "gates": len(network.plan.gates),
        "gated_share": sum(layer.macs for layer in layers if layer.gated) / network.ledger.dense,
        "least_ratio": float(network.cost(network.closed_decisions(1)).ratio),
    }
    opened = network.replay(images, network.open_decisions(BATCH))
    error = difference(opened, model(images))
    yield {"open_error": error}
    if not error <= OPEN_TOLERANCE:
        raise WrongError(f"all gates open differs from the original by {error:.1e}")
    counted = macs_while_running(model, images[:1])
    if counted != network.ledger.dense:
        raise WrongError(f"the ledger has {network.ledger.dense:,} dense MACs and the counter {counted:,}")
    spent = network.cost(network.open_decisions(1)).macs.item()
    if spent != network.ledger.dense + network.ledger.gate_macs:
        raise WrongError(f"all gates open cost {spent:,} MACs: not the dense ones and the gates'")
    decisions = network.open_decisions(BATCH)
    for decision in decisions.values():
        decision.mask.copy_(torch.rand_like(decision.mask) < 0.7)
    engine = convgate.compile(network, threads=1, fallback="torch")
    yield {"native_share": engine.explain().native_share}
    run = engine.run(images.numpy(), given={gate: decision.mask.numpy() for gate, decision in decisions.items()})
    error = difference(run.outputs, network.replay(images, decisions))
    yield {"engine_error": error}
    if not error <= ENGINE_TOLERANCE:
        raise WrongError(f"the engine differs from the gated network by {error:.1e}")
    costs = network.cost(decisions).macs.tolist()
    if run.macs.tolist() != costs:
        raise WrongError(f"the engine executed {run.macs.tolist()} MACs and the ledger has {costs}")
    plan = network.plan
    listed = {plan.layer_names[conv] for site in plan.sites for conv in site.convs} | {s.name for s in plan.skipped}
    absent = [layer.name for layer in layers if layer.name not in listed]
    if absent:
        raise WrongError(f"{len(absent)} lines of the ledger are not in the plan: {', '.join(absent[:3])}")


def gated(model: nn.Module, method: Method, images: torch.Tensor) -> convgate.GatedNetwork:
    """The gated model. The error, where there is nothing to gate, says why on its first line."""
    try:
        return convgate.gate(model, method, images)
    except PlanError as error:
        first = convgate.plan(model, method, images).skipped[0]
        what = str(error).splitlines()[0].rstrip(":")
        raise PlanError(f"{what}: {first.name} {first.reason}, ..") from error


def images_for(model: nn.Module, name: str) -> torch.Tensor:
    """Random images, small where the model takes small ones, in training, too."""
    known = model_input(name)
    channels, side, _ = known.shape if known else (3, 224, 224)
    fixed = (getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size")
    trained = copy.deepcopy(model).train()
    for tried in (side,) if fixed else (SIDE, 160, side):
        images = torch.randn(BATCH, channels, tried, tried)
        try:
            model(images), trained(images)
        except (RuntimeError, AssertionError, ValueError):
            continue
        return images
    raise RuntimeError(f"{name} takes images of none of the sizes that were tried")


def macs_while_running(model: nn.Module, image: torch.Tensor) -> int:
    """What PyTorch's counter, with our formulas, sees while the model runs on one image."""
    torch.backends.mha.set_fastpath_enabled(False)
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
        model(image)
    return counter.get_total_flops() // 2


def difference(given: Any, wanted: Any) -> float:
    """The largest difference, relative to the largest value; NaN or infinite where something is missing."""
    pairs = [[torch.as_tensor(t) for t in tree_leaves(side) if t is not None] for side in (given, wanted)]
    if [t.shape for t in pairs[0]] != [t.shape for t in pairs[1]]:
        return float("inf")
    # Not by Python's max, which passes over NaN.
    return float(
        np.max([float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in zip(*pairs, strict=True)])
    )


# -- one process for each


def outcome_of(entry: dict[str, Any], seconds: float, gigabytes: float) -> dict[str, Any]:
    """Examine one architecture in a process of its own: its facts, outcome and, if it is not "ok", what happened."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, entry, seconds, gigabytes))
    process.start()
    sender.close()
    result: dict[str, Any] = {"outcome": "crash", "text": "the process died"}
    while receiver.poll(10 * seconds):
        try:
            result |= receiver.recv()
        except EOFError:
            break
    process.join(5)
    if process.is_alive():
        process.kill()
        result |= {"outcome": "time", "text": f"more than {seconds:.0f} s of processor time"}
    return {**entry, **result}


def _child(sender: Any, entry: dict[str, Any], seconds: float, gigabytes: float) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    limit = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        for facts in examine(entry["name"], entry["method"], entry["seed"]):
            sender.send(facts)
    except ConvgateError as error:
        sender.send({"outcome": "refused", "text": f"{type(error).__name__}: {str(error).splitlines()[0][:400]}"})
    except WrongError as error:
        sender.send({"outcome": "wrong", "text": str(error)})
    except TimeoutError:
        sender.send({"outcome": "time", "text": f"more than {seconds:.0f} s of processor time"})
    except MemoryError:
        sender.send({"outcome": "memory", "text": f"more than {gigabytes:g} GiB"})
    except Exception as error:  # noqa: BLE001 - what escapes is what the sweep looks for
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = "memory" if "can't allocate memory" in str(error) else "crash"
        line = (str(error).splitlines() or [""])[0][:300]
        where = f"{Path(place.filename).name}:{place.lineno}"
        sender.send({"outcome": kind, "text": f"{type(error).__name__}: {line} ({where})"})
    else:
        sender.send({"outcome": "ok", "text": ""})
    sender.send({"seconds": round(time.process_time(), 1)})


# -- the record and its page


def read(path: Path = RECORD) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The draw, and the last result of each architecture that was run, by name."""
    draw, *results = (json.loads(line) for line in path.read_text().splitlines())
    return draw, {result["name"]: result for result in results}


def append(line: dict[str, Any], path: Path = RECORD) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def page(draw: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    """docs/models.md."""
    rows = [results[entry["name"]] for entry in draw["models"] if entry["name"] in results]
    counts = Counter(row["outcome"] for row in rows)
    tally = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])
    versions = draw["machine"]
    lines = [
        "# Architectures that were tried",
        "",
        "<!-- Written by benchmarks/models.py from benchmarks/results/models.jsonl: run `python benchmarks/models.py "
        "page`. -->",
        "",
        f"{len(draw['models'])} architectures of torchvision {draw['torchvision']} and timm {draw['timm']}, drawn at "
        f"random (seed {draw['seed']}) among those with at least {LEAST_CONVOLUTIONS} convolutions whose windows "
        f"overlap and at most {MOST_PARAMETERS // 10**6} million parameters. Each has random weights, and its method "
        "was drawn, too.",
        f"PyTorch {versions['torch']}, {versions['processor']}, {versions['instruction_set']}.",
        "",
        f"**{len(rows)} were run: {tally}.**",
        "",
        f"*ok*: all gates open is the original network (to {OPEN_TOLERANCE:g} of the largest output); the ledger's "
        "dense MACs are those that PyTorch's counter and our formulas count while the original runs; every line of "
        "the ledger stands in the plan; with random masks the engine returns what the gated network returns (to "
        f"{ENGINE_TOLERANCE:g}) and executes the MACs that the ledger says. *native* is the share of the MACs that "
        "convgate's own kernels compute; PyTorch computes the rest. *refused*: `convgate.gate` raises an error that "
        "says why, quoted below the table.",
        "",
        "| architecture | method | input | MACs (M) | gates | gated | all closed | native | outcome |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
        *(_row(row) for row in rows),
        "",
    ]
    told = [row for row in rows if row["outcome"] != "ok"]
    if told:
        lines += ["## What the others say", ""]
        lines += [f"- `{row['name']}`, {row['method']} ({row['outcome']}): {_plain(row['text'])}" for row in told]
        lines.append("")
    return "\n".join(lines)


def _row(row: dict[str, Any]) -> str:
    def share(key: str) -> str:
        return f"{row[key]:.0%}" if key in row else ""

    size = "x".join(map(str, row.get("input", [])))
    macs = f"{row['macs'] / 1e6:,.1f}" if "macs" in row else ""
    cells = [f"`{row['name']}`", row["method"], size, macs, row.get("gates", "")]
    cells += [share("gated_share"), share("least_ratio"), share("native_share"), row["outcome"]]
    return f"| {' | '.join(map(str, cells))} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


# -- the command


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="choose the architectures; starts a new record")
    drawing.add_argument("--seed", type=int, default=2026)
    drawing.add_argument("--count", type=int, default=160)
    running = commands.add_parser("run", help="examine the architectures that have no result yet")
    running.add_argument(
        "--again", default="", metavar="OUTCOMES", help="also those with these outcomes, e.g. wrong,crash"
    )
    running.add_argument("--only", default="", metavar="TEXT", help="only architectures whose names hold this text")
    running.add_argument(
        "--part", default="0/1", metavar="I/N", help="every N-th from the I-th on, to run side by side"
    )
    running.add_argument(
        "--seconds", type=float, default=180, help="of processor time, for each (default: %(default)s)"
    )
    running.add_argument("--gigabytes", type=float, default=6, help="limit for each (default: %(default)s)")
    commands.add_parser("page", help="write docs/models.md from the record")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.command == "draw":
        about = {"seed": given.seed, "torchvision": torchvision.__version__, "timm": timm.__version__}
        models = drawn(given.seed, given.count)
        RECORD.write_text(json.dumps({**about, "machine": machine(), "models": models}) + "\n")
        print(f"{len(models)} architectures in {RECORD}")
    elif given.command == "page":
        PAGE.write_text(page(*read()))
        print(f"{PAGE}")
    else:
        draw, results = read()
        part, parts = map(int, given.part.split("/"))
        again = set(filter(None, given.again.split(",")))
        todo = [
            entry
            for entry in draw["models"][part::parts]
            if given.only in entry["name"]
            and (entry["name"] not in results or results[entry["name"]]["outcome"] in again)
        ]
        for number, entry in enumerate(todo, 1):
            result = outcome_of(entry, given.seconds, given.gigabytes)
            append(result)
            print(
                f"{number}/{len(todo)} {result['name']} [{result['method']}] {result.get('seconds', '?')} s: "
                f"{result['outcome']} {result['text'][:160]}",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
