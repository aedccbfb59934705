"""Sphinx, for the pages in this folder. The build needs no network, nor do the pages it makes."""

import ast
import inspect
import re
import tokenize
from importlib import import_module
from importlib.metadata import metadata
from io import StringIO
from pathlib import Path
from textwrap import dedent

from sphinx.ext import autosummary
from sphinx.util.nodes import make_refnode
from sphinx_gallery.scrapers import figure_rst

about = metadata("pyro-scenes")
project = "pyro_scenes"
version = release = about["Version"]
copyright = "the pyro_scenes authors, Apache-2.0"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
extensions += ["sphinx.ext.viewcode", "sphinx_gallery.gen_gallery"]

# Sources of the tutorials; their pages are written into auto_tutorials.
exclude_patterns = ["_build", "tutorials"]
suppress_warnings = ["config.cache"]  # of the function in the tutorials' configuration
autosummary_generate = False
autosummary.WELL_KNOWN_ABBREVIATIONS += ("Eq.", "Sec.", " .")  # no sentence ends there
nitpicky = False  # it would ask for the pages of torch and Pyro, which are not here
highlight_language = "none"  # of commands, and of the processes at the heads of models
html_theme = "furo"
html_title = f"pyro_scenes {version}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # nn.Module would explain every forward in the same words
autodoc_preserve_defaults = True
autodoc_use_type_comments = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Departs from the paper"]
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True


def saved_pictures(block, block_vars, gallery_conf):
    """The PNG files that a block of a tutorial saved, for its page."""
    found = sorted(
        Path(block_vars["src_file"]).parent.glob("*.png"), key=lambda p: p.stat().st_mtime_ns
    )
    return figure_rst(
        [str(path.rename(next(block_vars["image_path_iterator"]))) for path in found],
        gallery_conf["src_dir"],
        block_vars["src_file"],
    )


sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "auto_tutorials",
    "filename_pattern": r"/\d_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (saved_pictures,),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 3600,
}


def setup(app):
    app.connect("autodoc-process-docstring", describe_field)
    app.connect("autodoc-process-docstring", escape_shapes)
    app.connect("missing-reference", find_by_last_name)


def find_by_last_name(app, env, node, contnode):
    """Docstrings name functions and classes without their modules: linked if only one is called so."""
    if node.get("refdomain") == "py" and node.get("reftype") != "mod":
        last = node["reftarget"].rsplit(".", 1)[-1]
        objects = env.domaindata["py"]["objects"].items()
        places = {
            (o.docname, o.node_id)
            for name, o in objects
            if name.rsplit(".", 1)[-1] == last and o.objtype != "module"
        }
        if len(places) == 1:
            return make_refnode(app.builder, node["refdoc"], *places.pop(), contnode)
    return None


def escape_shapes(app, what, name, obj, options, lines):
    """The star of a shape such as (*batch, C, H, W) is no markup."""
    for i, line in enumerate(lines):
        parts = line.split("``")  # every second one is a literal
        parts[::2] = [re.sub(r"(?<=[(, ])\*(?=\w+[,)])", r"\\*", part) for part in parts[::2]]
        lines[i] = "``".join(parts)


def describe_field(app, what, name, obj, options, lines):
    """The text of a NamedTuple's field is the comment above or beside it, where Python has none."""
    if lines and lines[0].startswith("Alias for field number"):
        owner, field = name.rsplit(".", 1)
        module, kind = owner.rsplit(".", 1)
        lines[:] = [_comments(getattr(import_module(module), kind)).get(field, "")]


def _comments(kind):
    """The comments of each field of a class, with what reStructuredText would read as markup escaped."""
    source = dedent(inspect.getsource(kind))
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    comments = {t.start[0]: t for t in tokens if t.type == tokenize.COMMENT}
    fields = {}
    for field in ast.parse(source).body[0].body:
        if isinstance(field, ast.AnnAssign):
            first = field.lineno
            while first - 1 in comments and comments[first - 1].line.lstrip().startswith("#"):
                first -= 1
            texts = [
                comments[i].string.lstrip("# ")
                for i in range(first, field.end_lineno + 1)
                if i in comments
            ]
            fields[field.target.id] = re.sub(r"([*|])", r"\\\1", " ".join(texts))
    return fields
