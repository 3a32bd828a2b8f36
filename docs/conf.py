"""How `make docs` turns README and notebooks into pages: outputs as stored, nothing is run, no page loads anything from another machine."""
project, author = "voicelab", "The voicelab authors"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "nbs/*.ipynb", "nbs/**/*.ipynb", "voicelab/checkpoints/tiny/README.md",
                    "tests/parity/README.md"]
exclude_patterns = ["**/.ipynb_checkpoints"]
html_theme, html_title = "furo", "voicelab"
html_copy_source = html_show_sphinx = html_show_copyright = False
nb_execution_mode = "off"
nb_ipywidgets_js, nb_mime_priority_overrides = {}, []
myst_heading_anchors = 3
CONTENTS = {"Start here": "nbs/index", "Lessons": "nbs/lessons/*", "Modules": "nbs/[0-9]*", "How the model was made": "nbs/recipes/*\nvoicelab/checkpoints/tiny/README", "For maintainers": "CONTRIBUTING\nCHANGELOG\nSECURITY\ntests/parity/README"}


def add_contents(app, name, source):
    "Add the tables of contents to the first page; the README alone does not need them."
    if name != root_doc: return
    for title, pages in CONTENTS.items():
        source[0] += f"\n```{{toctree}}\n:glob:\n:hidden:\n:maxdepth: 1\n:caption: {title}\n\n{pages}\n```\n"


def setup(app): app.connect("source-read", add_contents)
