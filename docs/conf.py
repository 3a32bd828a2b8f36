"""How `make docs` makes pages of README and notebooks: as stored, nothing is run, and no page asks another machine for anything."""
project, author = "voicelab", "The voicelab authors"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "nbs/*.ipynb", "nbs/**/*.ipynb", "voicelab/checkpoints/tiny/README.md"]
exclude_patterns = ["**/.ipynb_checkpoints"]
html_theme, html_title = "furo", "voicelab"
html_copy_source = html_show_sphinx = html_show_copyright = False
nb_execution_mode = "off"
nb_ipywidgets_js, nb_mime_priority_overrides = {}, []
myst_heading_anchors = 3
CONTENTS = {"Lessons": "nbs/lessons/*", "Modules": "nbs/*", "How the model was made": "nbs/recipes/*\nvoicelab/checkpoints/tiny/README", "For maintainers": "CONTRIBUTING\nCHANGELOG\nSECURITY"}


def add_contents(app, name, source):
    "Put the tables of contents, which a README on its own does not need, under the first page."
    if name != root_doc: return
    for title, pages in CONTENTS.items():
        source[0] += f"\n```{{toctree}}\n:glob:\n:hidden:\n:maxdepth: 1\n:caption: {title}\n\n{pages}\n```\n"


def setup(app): app.connect("source-read", add_contents)
