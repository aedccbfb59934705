"""Sphinx, for the pages in this folder. The build needs no network, nor do the pages it makes."""

import shutil
from importlib.metadata import metadata

about = metadata("pyro-scenes")
project = "pyro_scenes"
version = release = about["Version"]
copyright = "the pyro_scenes authors, Apache-2.0"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
# Formulas in docstrings are monospace text. MathJax would be fetched by every reader's browser, so
# other mathematics is pictures, where LaTeX is there to draw them.
if shutil.which("latex") and shutil.which("dvisvgm"):
    extensions += ["sphinx.ext.imgmath"]
    imgmath_image_format, imgmath_embed = "svg", True

exclude_patterns = ["_build"]
nitpicky = False  # it would ask for the pages of torch and Pyro, which are not here
html_theme = "furo"
html_title = f"pyro_scenes {version}"
html_copy_source = False

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
