"""The walls of the house: who may import whom, and what no file holds. Each rule is broken on made-up source first."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("memgen_eval", "reference_models")
BESIDE = ("benchmarks", "tests")  # in no wheel

LEAVES = {"__version__", "errors", "results"}  # what every room may import
STAGES = {
    "data",
    "features",
    "neighbours",
    "diffusion",
    "metrics",
    "copying",
    "fidelity",
}  # the flow, from images to figures
UPSTREAM: dict[str, set[str]] = {
    # leaves
    "errors": set(),
    "results": set(),
    "gates": {"comparison", "report"},  # for types
    "report": {"comparison", "gates", "shell"},  # for types the first
    "comparison": {"gates", "report"},
    # the flow
    "compute": {"shell"},
    "data": {"compute", "distributed", "runtime", "shell"},
    "features": {"compute", "data", "distributed", "runtime"},
    "neighbours": {"compute", "distributed"},
    "diffusion": {"compute", "distributed", "runtime"},
    "adapters": {"diffusion", "runtime"},
    "metrics": {"compute", "diffusion", "neighbours"},
    "altered": {"compute"},
    "copying": {"altered", "compute", "metrics", "neighbours"},
    "fidelity": {"compute", "diffusion", "distributed", "metrics", "neighbours"},
    "spectra": {"diffusion", "metrics", "runtime"},
    "resemblance": {"compute", "copying", "data", "metrics", "neighbours"},
    "trajectory": {"comparison", "metrics", "report"},
    "render": {"comparison", "gates", "report", "shell", "terminal", "trajectory"},
    "terminal": set(),
    # the corridor and its steps
    "distributed": set(),
    "runtime": {"compute"},
    "options": {"compute", "diffusion", "features", "gates", "metrics", "report"},
    "reference": STAGES | {"compute", "distributed", "resemblance"},
    "build_report": {
        "compute",
        "copying",
        "data",
        "features",
        "metrics",
        "neighbours",
        "options",
        "reference",
        "report",
    },
    "embedding": STAGES | {"compute", "distributed", "options", "reference", "runtime"},
    "keeping": STAGES | {"compute", "distributed", "options", "reference", "render", "report", "runtime", "shell"},
    "controls": STAGES | {"altered", "compute", "reference"},
    "evaluation": STAGES
    | {"adapters", "build_report", "compute", "controls", "distributed", "options", "reference", "report"}
    | {"embedding", "keeping", "resemblance", "runtime"},
    # the doors
    "shell": set(),
    "doctor": {"compute", "data", "neighbours"},
    "arguments": {"compute", "features", "options", "shell", "terminal"},
    "battery": {"compute", "data", "evaluation", "features", "metrics", "options", "reference"}
    | {"render", "report", "runtime", "shell", "terminal"},
    "cli": {
        "arguments",
        "battery",
        "comparison",
        "compute",
        "data",
        "distributed",
        "doctor",
        "evaluation",
        "gates",
        "keeping",
        "options",
        "render",
        "report",
        "runtime",
        "shell",
        "terminal",
    },
    "__main__": {"cli"},
    "__init__": STAGES | {"adapters", "evaluation", "reference", "report", "spectra"} | {"trajectory"},
}
WHEN_CALLED = {
    "report": {"comparison", "render"}
}  # Report.save, its page, its changes: the one way back, inside functions only

NO_TORCH = {"errors", "results", "report", "gates", "comparison", "metrics", "copying", "render", "terminal"}
NO_TORCH |= {"altered", "trajectory"}
NO_FILES = {"altered", "copying", "fidelity", "metrics"}
FILES = {"glob", "io", "os", "pathlib", "shutil", "tempfile", "zipfile", "PIL", "safetensors"}
FACTORIES = {"torch.tensor", "torch.as_tensor", "torch.empty", "torch.zeros", "torch.ones", "torch.full"}
FACTORIES |= {"torch.arange", "torch.linspace", "torch.eye", "torch.rand", "torch.randn"}
MAY_PRINT = {"cli", "__main__", "render", "shell"}

# About 300 lines and about 50, without docstrings: a little more, so that a fix of three lines needs no new file.
FILE_LINES = 320
FUNCTION_LINES = 50
FILES_AT_THE_TOP, FILES_OF_A_FOLDER, FLOORS = 15, 12, 10  # of files without `__init__`, and of rooms that import rooms

SHARED_NAMES = {
    "Arrays",
    "Bools",
    "Doubles",
    "Floats",
    "Pixels",
    "Rows",
    "log",
    "logger",
}  # types and loggers mean the same everywhere
SHARED_NAMES |= {"Denoiser"}  # the family has the name that it has in reports
SHARED_STEMS = {"denoiser"}

# What an import is called where packages are installed; markupsafe is the part of jinja2 that marks text as safe.
DISTRIBUTIONS = {"PIL": "pillow", "faiss": "faiss-cpu", "markupsafe": "jinja2", "sklearn": "scikit-learn"}


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, and its syntax tree."""

    name: str
    source: str
    is_package: bool = False

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def room(self) -> str:
        """The first name below `memgen_eval`: a folder or a file."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else "__init__"

    @property
    def in_library(self) -> bool:
        return self.name.split(".")[0] == "memgen_eval"


@dataclass(frozen=True)
class Import:
    """An imported module, and whether it is imported only when a function is called."""

    name: str
    when_called: bool


def read(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return Module(".".join(parts[:-1] if is_package else parts), path.read_text(encoding="utf-8"), is_package)


MODULES = [read(path) for package in (*PACKAGES, *BESIDE) for path in sorted((ROOT / package).rglob("*.py"))]


def imports(module: Module) -> Iterator[Import]:
    """Every import, those for type checkers too; `from package import module` as `package.module`."""
    functions = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    spans = [range(node.lineno, (node.end_lineno or node.lineno) + 1) for node in functions]
    for node in ast.walk(module.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            assert isinstance(node, ast.stmt)
            yield Import(name, any(node.lineno in span for span in spans))


def against_the_flow(module: Module) -> Iterator[str]:
    if not module.in_library:
        return
    if module.room not in UPSTREAM:
        yield f"{module.name} is no room of the house: draw it in the diagram and in UPSTREAM first"
        return
    allowed = LEAVES | UPSTREAM[module.room] | {module.room}
    for item in imports(module):
        top, _, rest = item.name.partition(".")
        room = rest.split(".")[0]
        back = item.when_called and room in WHEN_CALLED.get(module.room, set())
        if top == "memgen_eval" and room not in allowed and not back:
            yield f"{module.name} imports {item.name}"
        if top in {"reference_models", *BESIDE}:
            yield f"{module.name} imports {item.name}: the library knows none of its users"


def forbidden_packages(module: Module) -> Iterator[str]:
    for item in imports(module):
        top = item.name.split(".")[0]
        if top == "torchvision":
            yield f"{module.name} imports torchvision"
        if module.in_library and module.room in NO_TORCH and top == "torch":
            yield f"{module.name} imports torch"
        if module.in_library and module.room in NO_FILES and top in FILES:
            yield f"{module.name} imports {top}: metrics know arrays, not files"


def foreign_packages(module: Module) -> Iterator[str]:
    """Imports by the adapters of what they adapt: users who lack it, or have it broken, must not notice."""
    for item in imports(module):
        top = item.name.split(".")[0]
        if (
            module.in_library
            and module.room == "adapters"
            and top not in {*sys.stdlib_module_names, "memgen_eval", "numpy", "torch"}
        ):
            yield f"{module.name} imports {top}: models are recognised by their names"


def called(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def prints(module: Module) -> Iterator[str]:
    if module.in_library and module.room not in MAY_PRINT:
        yield from (f"{module.name} prints" for node in ast.walk(module.tree) if called(node) == "print")


def opens(module: Module) -> Iterator[str]:
    if module.in_library and module.room in NO_FILES:
        yield from (f"{module.name} opens a file" for node in ast.walk(module.tree) if called(node) == "open")


def swallows(module: Module) -> Iterator[str]:
    """A handler of everything that does nothing, in either spelling."""
    broad = {"Exception", "BaseException"}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else broad
            idle = all(isinstance(line, ast.Pass | ast.Continue | ast.Expr) and not calls(line) for line in node.body)
            if kinds & broad and idle:
                yield f"{module.name}:{node.lineno} swallows every exception"
        names = {ast.unparse(argument) for argument in node.args} if isinstance(node, ast.Call) else set()
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") and names & broad:
            yield f"{module.name}:{node.lineno} suppresses every exception"


def unplaced(module: Module) -> Iterator[str]:
    """Tensors of ours made on whatever device the caller has set as its default."""
    for node in ast.walk(module.tree) if module.in_library else ():
        made = isinstance(node, ast.Call) and ast.unparse(node.func) in FACTORIES
        if isinstance(node, ast.Call) and made and "device" not in {keyword.arg for keyword in node.keywords}:
            yield f"{module.name}:{node.lineno} makes a tensor without device="


def calls(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Call) for inner in ast.walk(node))


def num_lines(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef, first: int, last: int) -> int:
    """Lines from `first` to `last` without docstrings, the nested ones included."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    owners = [inner for inner in ast.walk(node) if isinstance(inner, kinds) and ast.get_docstring(inner) is not None]
    strings = [owner.body[0] for owner in owners]
    return last - first + 1 - sum((string.end_lineno or string.lineno) - string.lineno + 1 for string in strings)


def too_long(module: Module) -> Iterator[str]:
    if module.name.split(".")[0] == "tests":
        return
    length = num_lines(module.tree, 1, len(module.source.splitlines()))
    if length > FILE_LINES:
        yield f"{module.name} has {length} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = num_lines(node, node.lineno, node.end_lineno or node.lineno)
            if length > FUNCTION_LINES:
                yield f"{module.name}.{node.name} has {length} lines"


def undeclared(module: Module) -> Iterator[str]:
    """Imports of the packages that no dependency or extra of pyproject.toml brings."""
    if module.name.split(".")[0] not in PACKAGES:
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [items for name, items in project["optional-dependencies"].items() if name not in {"dev", "docs"}]
    declared = {line.split(">")[0] for line in chain(project["dependencies"], *extras)}
    for top in {item.name.split(".")[0] for item in imports(module)} - sys.stdlib_module_names - set(PACKAGES):
        if DISTRIBUTIONS.get(top, top).replace("_", "-") not in declared:
            yield f"{module.name} imports {top}, which pyproject.toml does not ask for"


def own_names(module: Module) -> Iterator[str]:
    """The public names that a file defines at its top level."""
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def is_file(module: Module) -> bool:
    return module.in_library and not module.is_package


def named_twice(modules: list[Module]) -> Iterator[str]:
    """A name has one meaning in the whole library."""
    places: dict[str, list[str]] = {}
    for module in filter(is_file, modules):
        for name in own_names(module):
            if not name.startswith("_") and name not in SHARED_NAMES:
                places.setdefault(name, []).append(module.name)
    yield from (f"{name} is defined in {' and '.join(held)}" for name, held in places.items() if len(set(held)) > 1)


def same_stem(modules: list[Module]) -> Iterator[str]:
    stems: dict[str, list[str]] = {}
    for module in filter(is_file, modules):
        stems.setdefault(module.name.rpartition(".")[2], []).append(module.name)
    yield from (
        f"{' and '.join(held)} have one stem"
        for stem, held in stems.items()
        if len(held) > 1 and stem not in SHARED_STEMS
    )


def too_full(modules: list[Module]) -> Iterator[str]:
    folders: dict[str, int] = {}
    for module in filter(is_file, modules):
        folder = module.name.rpartition(".")[0]
        folders[folder] = folders.get(folder, 0) + 1
    for folder, count in folders.items():
        if count > (FILES_AT_THE_TOP if folder == "memgen_eval" else FILES_OF_A_FOLDER):
            yield f"{folder} holds {count} files"


def imported_at_once(module: Module) -> set[str]:
    """The library's modules and names that a file imports when it is imported itself."""
    checked = [
        node for node in ast.walk(module.tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    for_types = {
        alias.name
        for node in checked
        for inner in node.body
        if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    }
    names = {item.name for item in imports(module) if not item.when_called}
    return {name for name in names if name.startswith("memgen_eval.") and name.rpartition(".")[2] not in for_types}


def in_circles(modules: list[Module]) -> Iterator[str]:
    """Files, or rooms, that import each other in a loop when they are imported; else rooms on too many floors."""
    known = {module.name: module for module in modules if module.in_library}
    files = {name: imported_files(module, known) for name, module in known.items()}
    rooms: dict[str, set[str]] = {}
    for name in known.keys() - {"memgen_eval"}:
        held = rooms.setdefault(known[name].room, set())
        held |= {known[other].room for other in files[name] - {"memgen_eval"}} - {known[name].room}
    found = list(loops(files)) or list(loops(rooms))
    yield from (" -> ".join(loop) for loop in found)
    if not found and height(rooms) > FLOORS:
        yield f"rooms stand on {height(rooms)} floors"


def imported_files(module: Module, known: dict[str, Module]) -> set[str]:
    """The other modules that a file imports when it is imported itself."""
    homes = {name if name in known else name.rpartition(".")[0] for name in imported_at_once(module)}
    return homes & known.keys() - {module.name}


def loops(below: dict[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """Each loop of a graph that a walk from the first name to the last meets."""
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if name in path:
            yield (*path[path.index(name) :], name)
        elif name not in done:
            for other in sorted(below.get(name, set())):
                yield from walk(other, (*path, name))
            done.add(name)

    for name in below:
        yield from walk(name, ())


def height(below: dict[str, set[str]]) -> int:
    """How many names stand on one another at most, in a graph without loops."""

    @functools.cache
    def floor(name: str) -> int:
        return 1 + max((floor(other) for other in below.get(name, set())), default=0)

    return max(map(floor, below), default=0)


HouseRule = Callable[[list[Module]], Iterator[str]]
HOUSE_RULES: list[HouseRule] = [named_twice, same_stem, too_full, in_circles]

Rule = Callable[[Module], Iterator[str]]
RULES: list[Rule] = [
    against_the_flow,
    forbidden_packages,
    foreign_packages,
    prints,
    opens,
    swallows,
    unplaced,
    too_long,
    undeclared,
]


def test_the_walk_finds_the_house() -> None:
    found = {module.name for module in MODULES}
    assert {"memgen_eval", "memgen_eval.metrics.novelty", "reference_models.demo", "benchmarks.peers"} <= found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    assert [finding for module in MODULES for finding in rule(module)] == []


@pytest.mark.parametrize("rule", HOUSE_RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: HouseRule) -> None:
    assert list(rule(MODULES)) == []


def made(**sources: str) -> list[Module]:
    return [Module(f"memgen_eval.{name.replace('__', '.')}", source) for name, source in sources.items()]


TOWER = {f"room{i}": f"from memgen_eval.room{i + 1} import x" for i in range(FLOORS)} | {f"room{FLOORS}": ""}
HOUSES: list[tuple[HouseRule, list[Module]]] = [
    (named_twice, made(data__one="def f(): ...", metrics__two="f = 1")),
    (same_stem, made(data__table="", render__table="")),
    (too_full, made(**{f"data__f{i}": "" for i in range(FILES_OF_A_FOLDER + 1)})),
    (too_full, made(**{f"f{i}": "" for i in range(FILES_AT_THE_TOP + 1)})),
    (in_circles, made(one="from memgen_eval.two import x", two="from memgen_eval import one")),
    (in_circles, made(**TOWER)),
]


@pytest.mark.parametrize(("rule", "house"), HOUSES, ids=lambda value: getattr(value, "__name__", None))
def test_each_house_rule_sees_what_breaks_it(rule: HouseRule, house: list[Module]) -> None:
    assert len(list(rule(house))) == 1


def test_no_house_rule_forbids_what_is_right() -> None:
    late = "def f():\n    from memgen_eval.one import x\nif TYPE_CHECKING:\n    from memgen_eval.one import x"
    house = made(
        one="from memgen_eval.two import x\n_n = 1", two=f"_n = 2\nRows = int\n{late}", data__denoiser="Rows = int"
    )
    assert [finding for rule in HOUSE_RULES for finding in rule([*house, *made(metrics__denoiser="")])] == []


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
LONG_DOCSTRING = 'def f():\n    """One.\n' + "\n" * 400 + '    """\n'

BROKEN: list[tuple[Rule, str, str]] = [
    (against_the_flow, "memgen_eval.metrics.novelty", "from memgen_eval.data.images import Images"),
    (against_the_flow, "memgen_eval.metrics.novelty", "from memgen_eval.report import Report"),
    (against_the_flow, "memgen_eval.metrics.novelty", "from memgen_eval.reference import Prepared"),
    (against_the_flow, "memgen_eval.fidelity.family", "from memgen_eval.reference import Prepared"),
    (against_the_flow, "memgen_eval.neighbours.search", "from memgen_eval.diffusion.moments import moments"),
    (against_the_flow, "memgen_eval.diffusion.optimal", "from memgen_eval.neighbours.search import mirrored"),
    (against_the_flow, "memgen_eval.compute.engines", "from memgen_eval.neighbours.topk import TopK"),
    (against_the_flow, "memgen_eval.metrics.novelty", "def f():\n    import memgen_eval.evaluation"),
    (against_the_flow, "memgen_eval.neighbours.search", "from memgen_eval.metrics import statistics"),
    (against_the_flow, "memgen_eval.data.sources", "from memgen_eval import evaluate"),
    (against_the_flow, "memgen_eval.report", "from memgen_eval.render.table import plain_table"),
    (against_the_flow, "memgen_eval.evaluation", "from memgen_eval.cli import entry"),
    (against_the_flow, "memgen_eval.data.datasets", "import reference_models.demo"),
    (against_the_flow, "memgen_eval.diffusion.optimal", "from benchmarks.truth import optimal_denoiser"),
    (against_the_flow, "memgen_eval.adapters.pipelines", "from memgen_eval.data.samplers import is_sampler"),
    (against_the_flow, "memgen_eval.diffusion.sampling", "from memgen_eval.adapters.model import Model"),
    (against_the_flow, "memgen_eval.utils", ""),
    (against_the_flow, "memgen_eval.battery.measuring", "from memgen_eval.copying.verdict import judge"),
    (against_the_flow, "memgen_eval.evaluation", "from memgen_eval.battery.alterations import blurred"),
    (foreign_packages, "memgen_eval.adapters.schedulers", "def f():\n    import diffusers"),
    (forbidden_packages, "memgen_eval.copying.copy_rules", "def f():\n    import torch"),
    (forbidden_packages, "memgen_eval.gates", "from torch import Tensor"),
    (forbidden_packages, "memgen_eval.metrics.gaussian_samples", "from pathlib import Path"),
    (forbidden_packages, "tests.test_x", "import torchvision.datasets"),
    (prints, "memgen_eval.data.sources", "print('read')"),
    (opens, "memgen_eval.metrics.novelty", "open('x')"),
    (swallows, "memgen_eval.data.sources", "try:\n    f()\nexcept Exception:\n    pass"),
    (swallows, "memgen_eval.data.sources", "try:\n    f()\nexcept (OSError, Exception) as error:\n    ..."),
    (swallows, "memgen_eval.data.sources", "for x in y:\n    try:\n        f()\n    except:\n        continue"),
    (swallows, "memgen_eval.data.sources", "with contextlib.suppress(Exception):\n    f()"),
    (unplaced, "memgen_eval.diffusion.inputs", "torch.as_tensor(sigma, dtype=torch.float64)"),
    (too_long, "memgen_eval.cli", LONG_FUNCTION),
    (too_long, "benchmarks.summary", LONG_FUNCTION),
    (too_long, "reference_models.demo", "x = 1\n" * (FILE_LINES + 1)),
    (undeclared, "memgen_eval.features", "import timm"),
]

KEPT: list[tuple[Rule, str, str]] = [
    (against_the_flow, "memgen_eval.report", "def save():\n    from memgen_eval.render.save import save_report"),
    (against_the_flow, "memgen_eval.metrics.novelty", "from memgen_eval.neighbours.topk import Neighbours"),
    (against_the_flow, "reference_models.demo", "from memgen_eval import evaluate"),
    (forbidden_packages, "memgen_eval.compute.engines", "def f():\n    import torch"),
    (prints, "memgen_eval.render.table", "print('x')"),
    (swallows, "memgen_eval.evaluation", "try:\n    f()\nexcept Exception as error:\n    log(error)"),
    (swallows, "memgen_eval.evaluation", "try:\n    f()\nexcept OSError:\n    pass"),
    (unplaced, "memgen_eval.diffusion.inputs", "torch.from_numpy(x), torch.zeros(3, device=x.device)"),
    (too_long, "memgen_eval.cli", LONG_DOCSTRING),
    (undeclared, "memgen_eval.data.sources", "import os\nfrom PIL import Image"),
]


@pytest.mark.parametrize(("rule", "name", "source"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_each_rule_sees_what_breaks_it(rule: Rule, name: str, source: str) -> None:
    assert len(list(rule(Module(name, source)))) == 1


@pytest.mark.parametrize(("rule", "name", "source"), KEPT, ids=lambda value: getattr(value, "__name__", None))
def test_no_rule_forbids_what_is_right(rule: Rule, name: str, source: str) -> None:
    assert list(rule(Module(name, source))) == []


HEAVY = ["PIL", "faiss", "jinja2", "matplotlib", "numkong", "rich", "safetensors", "scipy", "sklearn", "torch"]


HELP = (
    "import contextlib\nfrom memgen_eval.cli import main\nwith contextlib.suppress(SystemExit):\n    main(['--help'])"
)


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import memgen_eval", [*HEAVY, "numpy"]),
        ("import memgen_eval; memgen_eval.InputError; dir(memgen_eval)", [*HEAVY, "numpy"]),
        ("import memgen_eval.report, memgen_eval.results", [*HEAVY, "numpy"]),
        (HELP, HEAVY),
    ],
    ids=["import", "errors", "report", "help"],
)
def test_heavy_packages_are_imported_only_where_they_are_used(code: str, heavy: list[str]) -> None:
    script = f"{code}\nimport sys\nprint('loaded:', sorted(set({heavy}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "loaded: []"
