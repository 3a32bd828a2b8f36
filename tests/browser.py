"""A real JupyterLab in a real Chromium: what the browser tests share.

One server, one browser and one kernel serve all of them; each test opens a notebook of its own. Nothing leaves the machine: a
request to anywhere else is stopped and counts as a failure.
"""
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import nbformat

AXE = Path(__file__).parent / "axe/axe.min.js"             # axe-core 4.14.1 (MPL-2.0), unchanged, from npm; only tests use it
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
         "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
CONFIG = """
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True
c.IdentityProvider.token = ""                                   # on this machine only, and only while the tests run
c.ServerApp.disable_check_xsrf = True
c.LabApp.expose_app_in_browser = True                           # window.jupyterapp
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
"""
QUIET = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}


def missing() -> str:
    "Why no browser can be driven here; empty if one can."
    if find_spec("playwright") is None: return "playwright is not installed"
    return "" if CHROMIUM else "Chromium is not installed (apt-get install chromium)"


def free_port() -> int:
    "A port that no other worker of the tests takes, and that the system gives to no connection by itself, where there is such a one."
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    below = int(given.read_text().split()[0]) if given.exists() else 32_768
    if below < 20_000: below = 32_768                       # the system gives nearly all of them
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(below - 10_000 + worker, below, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
    for port in random.Random().sample(ports, len(ports)):
        with socket.socket() as probe:
            try: probe.bind(("127.0.0.1", port))
            except OSError: continue
            return port
    raise RuntimeError(f"no port below {below} is free")


def soon(true, seconds: float = 30) -> bool:
    "Whether it becomes so."
    ends = time.monotonic() + seconds
    while not (is_so := true()) and time.monotonic() < ends: time.sleep(0.2)
    return is_so


def environment(home: Path) -> dict:
    "The environment of a server whose settings, workspaces and runtime files are all in `home`."
    folders = dict(HOME="", JUPYTER_CONFIG_DIR="config", JUPYTER_DATA_DIR="data", JUPYTER_RUNTIME_DIR="run",
                   JUPYTERLAB_WORKSPACES_DIR="workspaces", JUPYTERLAB_SETTINGS_DIR="settings", IPYTHONDIR="ipython")
    kept = {"MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path.home() / ".cache/matplotlib"))}     # or fonts are listed anew
    kept["JUPYTER_PREFER_ENV_PATH"] = "0"                   # what is in `home` comes first
    return os.environ | kept | {name: str(home / folder) for name, folder in folders.items()}


@contextmanager
def serving(command: list[str], url: str, home: Path, folder: Path | None = None):
    "Run a server in `folder` until the block ends; begins when `url` answers, gives the file of what it says."
    log = home / "server.log"
    with open(log, "w") as out: process = subprocess.Popen(command, env=environment(home), cwd=folder, stdout=out, stderr=out)
    try:
        ends = time.monotonic() + 120
        while True:
            try: urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError: break                            # it answers
            except OSError:
                if process.poll() is not None or time.monotonic() > ends: raise RuntimeError(log.read_text()[-2000:]) from None
                time.sleep(0.2)
            else: break
        yield log
    finally:
        process.terminate()
        try: process.wait(120)
        finally:
            process.kill()                                                  # nothing happens if it has ended
            process.wait()


@contextmanager
def jupyterlab(home: Path, root: Path, python=(sys.executable,)): # python: the words that start Python in kernels
    "A JupyterLab over `root`; gives its address."
    (home / "config.py").write_text(CONFIG)
    kernel = home / "data/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps(dict(argv=[*python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="Python 3 (ipykernel)",
                                      language="python", interrupt_mode="message", env=dict(MPLBACKEND="module://matplotlib_inline.backend_inline"))))
    notices = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    notices.parent.mkdir(parents=True)
    notices.write_text(json.dumps(QUIET))
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "jupyterlab", f"--config={home / 'config.py'}", f"--ServerApp.root_dir={root}", f"--ServerApp.port={port}"]
    with serving(command, f"{url}/api/status", home): yield url


@contextmanager
def chromium():
    "A browser."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try: yield browser
        finally: browser.close()


def watched_page(browser, height=900):
    "A page of 1280 px; its `errors` are those of the page and every request that wanted to leave the machine."
    page = browser.new_page(viewport=dict(width=1280, height=height))
    page.errors, page.loads = [], []
    page.set_default_timeout(60_000)
    page.on("load", lambda _: page.loads.append(page.url))
    page.on("pageerror", lambda error: page.errors.append(f"page error: {error}"))
    def gate(route):
        url = route.request.url
        if url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "blob:", "data:")): return route.continue_()
        page.errors.append(f"left the machine: {url}")
        route.abort()
    page.route("**/*", gate)
    return page


NATIVE = """() => [[navigator.mediaDevices, "getUserMedia"], [navigator.clipboard, "writeText"], [HTMLMediaElement.prototype, "play"], [window, "fetch"],
    [window, "open"], [AudioBufferSourceNode.prototype, "start"]].every(([owner, name]) => `${owner[name]}`.includes("[native code]"))"""


class Lab:
    "A JupyterLab and a browser; its notebooks share one kernel."
    def __init__(self, url: str, root: Path, browser):
        self.url, self.root, self.browser = url, root, browser
        self.kernel = self.ask("kernels", dict(name="python3"))["id"]

    def ask(self, what: str, content: dict) -> dict:
        request = urllib.request.Request(f"{self.url}/api/{what}", json.dumps(content).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer: return json.load(answer)

    def open(self, name: str, *cells: str, page=None): # page: one that `leave` gave back; to load JupyterLab anew takes seconds
        "A page with a new notebook of these cells, all of them run."
        v4, path = nbformat.v4, f"{name}.ipynb"
        spec = dict(name="python3", display_name="Python 3 (ipykernel)", language="python")
        nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells], metadata=dict(kernelspec=spec)), self.root / path)
        self.ask("sessions", dict(path=path, name=path, type="notebook", kernel=dict(id=self.kernel)))
        if page is None:
            page = watched_page(self.browser)
            page.goto(f"{self.url}/lab/tree/{path}?reset")
            page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
        else:
            page.errors.clear()
            do(page, "apputils:change-theme", theme="JupyterLab Light")
            page.set_viewport_size(dict(width=1280, height=900))
            do(page, "docmanager:open", path=path)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.wait_for_function("""path => { const here = window.jupyterapp.shell.currentWidget?.context
            return here?.path === path && here.sessionContext?.session?.kernel }""", arg=path)
        page.evaluate("() => window.jupyterapp.shell.currentWidget.context.sessionContext.ready")
        page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
        do(page, "notebook:run-all-cells")                                  # comes back when all have run
        page.wait_for_function("() => !document.querySelector('[class^=voicelab-still] *')")  # what stands there until its widget has come
        return page

    def leave(self, page):
        "Close the notebook of a page; the page, or None if it is not as it was when it was loaded."
        if len(page.loads) > 1 or not page.evaluate(NATIVE): return page.close()
        page.evaluate("""() => { const notebook = window.jupyterapp.shell.currentWidget
            notebook.context.model.dirty = false                            // or it asks whether to save
            notebook.close() }""")
        page.locator(".jp-Notebook").wait_for(state="detached")
        return page


def do(page, command: str, **options):
    "A command of JupyterLab."
    page.evaluate("async ([name, options]) => { await window.jupyterapp.commands.execute(name, options) }", [command, options])


def output(page, cell: int) -> str:
    "The text below a cell: of a widget, without what stays of it."
    return page.locator(".jp-Cell").nth(cell).locator(".jp-OutputArea-output").first.inner_text()


def run_cell(page, cell: int) -> str:
    "Run a cell again; the text below it."
    page.locator(".jp-Cell").nth(cell).locator(".jp-InputArea-editor").click()
    do(page, "notebook:run-cell")
    return output(page, cell)


def seconds_of(player) -> float:
    "How long the sound of an `<audio>` is, once the browser has read it."
    return player.evaluate("""player => new Promise(done => player.readyState >= 1 ? done(player.duration)
        : player.addEventListener("loadedmetadata", () => done(player.duration), { once: true }))""")


def hear(player) -> float:
    "Play an `<audio>`; how many seconds it has come when it moves."
    return player.evaluate("""player => player.play().then(() => new Promise((done, fail) => {
        const ends = Date.now() + 60000, look = () => player.currentTime > 0.1 || player.ended ? done(player.currentTime)
            : Date.now() > ends ? fail(new Error("the player does not move")) : setTimeout(look, 50)
        look() })).finally(() => player.pause())""")


def forget_widgets(page):
    "Close all widgets of the kernel, so that the next notebook begins with none."
    page.evaluate("""code => window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.requestExecute({ code }).done""",
                  "import ipywidgets; ipywidgets.Widget.close_all()")


def violations(page, where: str = ".voicelab-panel") -> list[str]:
    "What axe finds serious in the parts of a page that are called `where`: rule, part, and what is the matter."
    if not page.locator(where).count(): return []
    page.evaluate(AXE.read_text("utf-8"))
    page.evaluate("() => { document.body.style.minHeight = '100vh' }")      # JupyterLab's body has no height: axe would see no contrast
    found = page.evaluate("""where => axe.run({ include: [[where]] }, { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] })
        .then(({ violations }) => violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).flatMap(({ id, nodes }) =>
            nodes.map(node => `${id}: ${node.html.slice(0, 200)}: ${node.failureSummary.split("\\n").slice(1).join(" ").slice(0, 300)}`)))""", where)
    return found


def pictures(page, folder: Path, name: str, widths=()) -> list[str]:
    "Pictures of the page in both themes, as tall as its notebook, in the dark one also of other widths; what axe finds serious in its widgets."
    found = []
    folder.mkdir(parents=True, exist_ok=True)
    tall = page.evaluate("() => Math.max(...[...document.querySelectorAll('.jp-WindowedPanel-outer')].map(part => part.scrollHeight))")
    page.set_viewport_size(dict(width=1280, height=min(4000, tall + 120)))
    page.evaluate("() => document.querySelectorAll('.jp-WindowedPanel-outer').forEach(part => { part.scrollTop = 0 })")
    for theme in ("Light", "Dark"):
        do(page, "apputils:change-theme", theme=f"JupyterLab {theme}")
        page.wait_for_timeout(300)
        page.wait_for_function("() => !document.querySelector('#jupyterlab-splash')")        # or it veils the picture
        page.screenshot(path=folder / f"{name}_{theme.lower()}.png")
        found += [f"{theme}: {each}" for each in violations(page)]
    for width in widths:
        page.set_viewport_size(dict(width=width, height=900))
        page.wait_for_timeout(900)                          # the kernel draws anew
        page.screenshot(path=folder / f"{name}_{width}.png")
    return found
