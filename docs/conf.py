"""The documents as a site: `make docs` writes it to target/docs.

The sources are the documents where they lie, with the top of the repository as their root, so that a link from one to
another is the same on a code host and here. What is linked to and is no document, such as a program of the examples,
comes along as a download.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "coldframe"
author = "coldframe's authors"
project_copyright = author
version = release = re.search(r'^version = "(.*)"$', (HERE.parent / "pyproject.toml").read_text(), re.MULTILINE)[1]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_line",
    "docstrings",
    "pytest_options",
]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "examples/**.md"]
exclude_patterns = [".*", "target", "rust", "python", "tests", "benches", "docs/_*"]

myst_heading_anchors = 4  # a heading is an anchor, as code hosts have it

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autoclass_content = "both"  # of the class, and of the arguments that make it
default_role = "backticks"
nitpicky = True
# Names of others, and private ones, are text: nothing is fetched to find them.
nitpick_ignore_regex = [("py:.*", r"(?!coldframe\b).*"), ("py:.*", r"coldframe\._.*")]

smartquotes = False  # quotation marks and dashes as they are written

html_theme = "furo"
html_title = "coldframe"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]  # an index.html, which leads to root_doc
html_copy_source = False
html_show_sphinx = False
