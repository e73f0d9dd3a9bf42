"""Settings of the documentation: ``make docs`` builds it into ``build/docs``, with warnings as errors.

The pages load nothing from a network: search is Sphinx's own, and formulas are MathML, which browsers draw themselves.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the sources document themselves, installed or not

project = "memgen-eval"
author = "The memgen-eval contributors"
found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
release = version = found[1] if found else ""

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # notebooks show what they give today
nb_execution_raise_on_error = True
nb_execution_timeout = 300
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"memgen-eval {version}"
html_show_copyright = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

autodoc_typehints = "none"  # the docstrings say shapes and units, which annotations cannot
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in docstrings are words; links between pages are checked


def _inline(self: Any, node: Any) -> None:
    from docutils import nodes

    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block(self: Any, node: Any) -> None:
    from docutils import nodes

    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _prepare(app: Any, name: str, source: list[str]) -> None:
    """Links to pages elsewhere become links to files; pages that the contents leave out come last among the how-to."""
    if name == "index":
        lines = source[0].splitlines()
        others = sorted(set(app.env.found_docs) - set(lines) - {name})
        place = lines.index("scale") + 1
        source[0] = "\n".join([*lines[:place], *others, *lines[place:]])
    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)#]+\.md)\)", r"{download}`\1 <\2>`", source[0])


def setup(app: Any) -> None:
    """Draw formulas as MathML, and bring along what pages link to."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("source-read", _prepare)


html_math_renderer = "mathml"
