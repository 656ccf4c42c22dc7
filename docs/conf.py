# Copyright 2026 The tcm_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Settings of Sphinx. `sphinx-build -W --keep-going -n docs docs/_build/html` builds the site."""

import sys
from pathlib import Path


sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import docstrings
import generated

from tcm_hf import __version__


project = "tcm_hf"
author = "The tcm_hf authors"
project_copyright = "2026, The tcm_hf authors"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore = [("py:class", "numpy.float64")]

# Quotation marks and dashes of commands stay as they are typed.
smartquotes = False

html_theme = "furo"
html_title = f"tcm_hf {release}"
html_show_sphinx = False

# The docstrings name the types, with shapes and units; a signature has the defaults alone.
autodoc_typehints = "none"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}


def setup(app):
    generated.setup(app)
    docstrings.setup(app)
