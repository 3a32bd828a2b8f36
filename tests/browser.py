"""JupyterLab and Voila on 127.0.0.1, seen through Debian's Chromium: what the browser tests stand on.

Nothing but the local machine may be asked for anything: every other request is refused and remembered.
"""
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import nbformat

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
QUIET = '{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}'


def why_not() -> str:
    "The reason why there can be no browser test on this machine; empty where there can."
    if not find_spec("playwright"): return "playwright is not installed"
    return "" if shutil.which("chromium") else "chromium is not installed (apt-get install chromium)"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home: Path) -> dict:
    "Jupyter with its files in a folder of its own."
    places = dict(JUPYTER_CONFIG_DIR="config", JUPYTER_DATA_DIR="data", JUPYTER_RUNTIME_DIR="run", JUPYTERLAB_WORKSPACES_DIR="workspaces",
                  JUPYTERLAB_SETTINGS_DIR="settings", IPYTHONDIR="ipython")
    return os.environ | {name: str(home / place) for name, place in places.items()} | {"HOME": str(home), "PYTHONUNBUFFERED": "1"}


@contextmanager
def served(command: list[str], url: str, home: Path):
    "A server until the end of the block; it has a minute to answer at `url`."
    log = home / "server.log"
    with open(log, "w") as file: process = subprocess.Popen(command, env=environment(home), stdout=file, stderr=file, cwd=home)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(url, timeout=2)
                break
            except OSError: time.sleep(0.25)
            if process.poll() is not None: raise RuntimeError(log.read_text()[-2000:])
        else: raise TimeoutError(f"{url} did not answer in a minute: {log.read_text()[-2000:]}")
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def jupyterlab(root: Path, home: Path):
    "JupyterLab over `root`; its address."
    url = f"http://127.0.0.1:{(port := free_port())}"
    (home / "jupyter_server_config.py").write_text("\n".join([
        "c.ServerApp.ip = '127.0.0.1'", f"c.ServerApp.port = {port}", "c.ServerApp.port_retries = 0", "c.ServerApp.open_browser = False",
        "c.ServerApp.allow_root = True", f"c.ServerApp.root_dir = {str(root)!r}", "c.IdentityProvider.token = ''",
        "c.ServerApp.disable_check_xsrf = True", "c.LabApp.expose_app_in_browser = True", "c.LabApp.news_url = None",
        "c.LabApp.check_for_updates_class = 'jupyterlab.NeverCheckForUpdate'", "c.LabApp.extension_manager = 'readonly'"]))
    notices = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    notices.parent.mkdir(parents=True)
    notices.write_text(QUIET)
    with served([sys.executable, "-m", "jupyterlab", "--config", str(home / "jupyter_server_config.py")], f"{url}/api/status", home): yield url


class Page:
    "A browser page with what tests do on it; `errors` and `abroad` must stay empty."
    def __init__(self, page):
        self.page, self.errors, self.abroad = page, [], []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route("**/*", self._pass)

    def _pass(self, route):
        address = route.request.url
        if address.startswith(("http://127.0.0.1", "ws://127.0.0.1", "blob:", "data:")): return route.continue_()
        self.abroad.append(address)
        route.abort()

    def open(self, url: str, name: str, theme: str = "JupyterLab Light"):
        "Open a notebook alone in the window and run all of its cells."
        page = self.page
        page.goto(f"{url}/lab/tree/{name}?reset")
        page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.context?.sessionContext?.session?.kernel", timeout=60_000)
        page.evaluate("() => window.jupyterapp.shell.currentWidget.context.sessionContext.ready")
        page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
        page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")     # resolves when all have run

    def run(self, code: str) -> str:
        "The text that `code`, put into a new last cell, answers."
        page = self.page
        page.evaluate("""async code => {
            const notebook = window.jupyterapp.shell.currentWidget.content
            notebook.activeCellIndex = notebook.widgets.length - 1
            await window.jupyterapp.commands.execute('notebook:insert-cell-below')
            notebook.activeCell.model.sharedModel.setSource(code)
            await window.jupyterapp.commands.execute('notebook:run-cell')
        }""", code)
        return page.locator(".jp-Cell").last.locator(".jp-OutputArea-output").inner_text()

    def click(self, name: str):
        "Press the button of that name."
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def hear(self, audio) -> float:
        "Play an <audio> element for a moment; its seconds."
        seconds = audio.evaluate("""a => new Promise(done => a.readyState >= 1 ? done(a.duration)
                                    : a.addEventListener('loadedmetadata', () => done(a.duration), { once: true }))""")
        audio.evaluate("a => a.play()")
        self.page.wait_for_function("a => a.currentTime > 0.1 || a.ended", arg=audio.element_handle())
        audio.evaluate("a => a.pause()")
        return seconds

    def picture(self, path: Path, of: str = ".jp-OutputArea-output .jupyter-widgets"):
        "A picture of the widget."
        self.page.locator(of).first.screenshot(path=path)


def write_notebook(path: Path, *cells: str):
    "A notebook of code cells."
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = dict(kernelspec=dict(name="python3", display_name="Python 3", language="python"))
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=spec), path)
