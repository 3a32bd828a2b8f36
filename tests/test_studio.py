"""The studio's server as its neighbours meet it: who is let in, what a page may do, and how long its kernel lives.

One server with a single place answers most tests. Its folder is somebody else's: what a Python file there does would show.
"""
import asyncio
import html
import http.client
import json
import re
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import browser
import pytest

pytest.importorskip("voila", reason="voila is not installed")
import websocket
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from tornado.web import HTTPError

from voicelab import studio as module
from voicelab.studio import Kernels
from voicelab.turns import SharedTurns

TRAP = "from pathlib import Path\nPath(__file__).with_suffix('.sprung').touch()\n"
OPENER = "import sys\nfrom pathlib import Path\nPath('opened').write_text(sys.argv[1])\n"
UPGRADE = dict(Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13", Sec_WebSocket_Key="c29tZSB3b3JkcyBoZXJlIQ==",
               Sec_WebSocket_Protocol=module.PROTOCOL)
SECONDS = 30
NO_PINGS = "--Voila.tornado_settings={'ws_ping_interval': 0}"           # the tests' sockets answer none


class Neighbour:
    "Asks a studio as anyone on this machine can."
    def __init__(self, port: int, folder: Path, log: Path):
        self.port, self.folder, self.log = port, folder, log
        assert browser.soon(lambda: "?token=" in log.read_text())
        self.token = re.search(r"http://127.0.0.1:\d+/\?token=(\w+)", log.read_text())[1]

    def ask(self, path: str, method: str = "GET", **headers: str) -> SimpleNamespace:
        "An answer: status, reason, headers and body; and the line, which stays open."
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * SECONDS)
        line.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = line.getresponse()
        return SimpleNamespace(line=line, status=answer.status, reason=answer.reason, headers=answer.headers, body=answer.read().decode())

    def socket(self, kernel: str, query: str = "", **headers: str) -> SimpleNamespace:
        "The answer to whoever wants a kernel's WebSocket; status 101 lets in."
        return self.ask(f"/api/kernels/{kernel}/channels{query}", **UPGRADE | headers)

    def kernels(self) -> int:
        "How many were started so far."
        return self.log.read_text().count("Kernel started")

    def state(self) -> dict: return json.loads(self.ask(f"/studio/state?token={self.token}").body)

    def open(self) -> SimpleNamespace:
        "A page of the owner's: its kernel, its cookies and its WebSocket."
        assert browser.soon(lambda: self.state()["ready"], 120), self.state()
        answer = self.ask(f"/?theme=light&token={self.token}")
        assert answer.status == 200, answer.reason
        kernel = re.search(r'"kernelId": "([\w-]+)"', answer.body)[1]
        given = answer.headers.get_all("Set-Cookie")
        cookies = "; ".join(cookie.split(";")[0] for cookie in given)
        socket = self.socket(kernel, Cookie=cookies, Origin=f"http://127.0.0.1:{self.port}")
        assert socket.status == 101, socket.reason
        return SimpleNamespace(kernel=kernel, given=given, cookies=cookies, answer=answer, socket=socket.line)

    def lives(self, page) -> bool: return self.ask(f"/api/kernels/{page.kernel}?token={self.token}").status == 200


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("folder")
    for name in ("voila", "tornado", "traitlets", "anywidget", "matplotlib"): (folder / f"{name}.py").write_text(TRAP)
    (home / "opener.py").write_text(OPENER)
    words = [f"--port={(port := browser.free_port())}", "--Kernels.patience=20", f"--Voila.browser={sys.executable} {home / 'opener.py'} %s",
             "--Voila.ip=0.0.0.0", NO_PINGS]
    command = [str(Path(sys.executable).with_name("voicelab")), "studio", "--pages", "1", "--", *words]
    with browser.serving(command, f"http://127.0.0.1:{port}", home, folder) as log: yield Neighbour(port, folder, log)


@pytest.fixture(scope="module")
def opened(): return []


@pytest.fixture
def page(studio, opened):
    "An open page: that of the test before, if it is not closed."
    if not opened or not studio.lives(opened[-1]): opened.append(studio.open())
    return opened[-1]


# ---- who is let in

@pytest.mark.parametrize("method, path", [("GET", "/"), ("GET", "/?token=wrong"), ("GET", "/?token="), ("GET", "/login"), ("GET", "/voila.png"),
                                          ("GET", "/studio/state"),
                                          ("GET", "/api/kernels/1-2-3-4-5"), ("DELETE", "/api/kernels/1-2-3-4-5"),
                                          ("POST", "/voila/api/shutdown/1-2-3-4-5"), ("GET", "/voila/files/sound.png")])
def test_without_the_token_nobody_is_let_in(studio, method, path):
    before, answer = studio.kernels(), studio.ask(path, method)
    assert answer.status == 403 and studio.kernels() == before
    if path == "/": assert "Open the link that voicelab studio printed" in answer.body


def test_the_first_answer_says_what_is_happening_and_starts_nothing(studio):
    before, answer = studio.kernels(), studio.ask(f"/?token={studio.token}")
    assert answer.status == 200 and "This page goes on by itself." in answer.body and studio.kernels() == before
    assert "http:" not in answer.body and "https:" not in answer.body and studio.state()["words"]


def test_without_the_token_there_is_no_websocket(studio): assert studio.socket("1-2-3-4-5").status == 403


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "localhost.example.org", "192.168.0.7", "0.0.0.0", "[::ffff:1.2.3.4]"])
@pytest.mark.parametrize("path", ["/", "/voila/static/voila.js", "/api/kernels/1-2-3-4-5", "/api/kernels/1-2-3-4-5/channels"])
def test_another_host_is_refused_with_the_token_too(studio, host, path):
    before, answer = studio.kernels(), studio.ask(f"{path}?token={studio.token}", Host=f"{host}:{studio.port}")
    assert answer.status == 403 and answer.body == "This studio answers at 127.0.0.1 and localhost only." and studio.kernels() == before


def test_localhost_is_this_machine(studio): assert studio.ask("/voila/static/voila.js", Host=f"localhost:{studio.port}").status == 200


def test_it_is_bound_to_this_machine_by_no_option(studio):
    assert "`ip` not recognized" in studio.log.read_text()      # it was asked to listen everywhere
    with pytest.raises(ConnectionRefusedError): http.client.HTTPConnection("127.0.0.2", studio.port, timeout=5).connect()


@pytest.mark.parametrize("path", ["/", "/?token={token}", "/voila/api/shutdown/1-2-3-4-5", "/api/kernels/1-2-3-4-5?token={token}"])
def test_no_other_page_may_frame_it(studio, path):
    headers = studio.ask(path.format(token=studio.token), Sec_Fetch_Dest="iframe").headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["frame-ancestors"] == "'self'" and headers["X-Frame-Options"] == "SAMEORIGIN"


def test_nobody_learns_of_other_pages(studio, page):
    for path in ("/api/kernels", "/api/sessions", "/api/contents", "/voila/files/studio.ipynb"):
        assert studio.ask(f"{path}?token={studio.token}").status in (403, 404)


def test_the_page_loads_nothing_from_elsewhere(page):
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//[^"'> ]+""", page.answer.body)


def test_the_page_may_ask_nobody_else(page):
    rules = [rule.split() for rule in page.answer.headers["Content-Security-Policy"].split(";")]
    assert {name for name, *_ in rules} >= {"default-src", "connect-src", "form-action", "base-uri"}
    assert {source for _, *sources in rules for source in sources} == {
        "'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:", "ws://127.0.0.1:*", "ws://localhost:*"}


def test_the_browser_is_opened_by_a_file_of_the_owner(studio):
    assert browser.soon((opened := studio.folder / "opened").exists)
    words = opened.read_text()
    file = Path(words.removeprefix("file://"))
    assert studio.token not in words and f"url=http://127.0.0.1:{studio.port}/?token={studio.token}" in file.read_text()
    assert file.parent.stat().st_mode & 0o077 == 0


# ---- a page and its kernel

def test_the_cookie_stays_at_home(page):
    (cookie,) = (cookie for cookie in page.given if cookie.startswith("username"))
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}


@pytest.mark.parametrize("said", [dict(Sec_Fetch_Dest="image"), dict(Sec_Fetch_Dest="iframe", Sec_Fetch_Site="same-origin"),
                                  dict(Sec_Fetch_Dest="document", Sec_Fetch_Site="same-site"),
                                  dict(Sec_Fetch_Dest="document", Sec_Fetch_Site="cross-site"), dict(Sec_Fetch_Dest="empty")])
def test_a_foreign_page_starts_no_kernel_by_the_owners_cookie(studio, page, said):
    before = studio.kernels()
    answer = studio.ask("/", Cookie=page.cookies, **said)
    assert (answer.status, studio.kernels()) == (403, before) and "window of its own" in answer.body


@pytest.mark.parametrize("origin", ["http://example.org", "http://127.0.0.1:1", "null"])
@pytest.mark.parametrize("key", ["cookie", "token"])
def test_a_websocket_from_another_page_is_refused(studio, page, origin, key):
    query, headers = (f"?token={studio.token}", {}) if key == "token" else ("", dict(Cookie=page.cookies))
    assert studio.socket(page.kernel, query, Origin=origin, **headers).status == 403
    assert studio.socket(page.kernel, query, **headers).status == 101


def test_a_websocket_of_the_older_protocol_is_refused(studio, page):
    assert studio.socket(page.kernel, Cookie=page.cookies, Origin=f"http://127.0.0.1:{studio.port}", Sec_WebSocket_Protocol="old").status == 400


def test_what_server_and_kernel_say_is_encrypted(studio, page):
    assert "without encryption" not in studio.log.read_text()


def test_a_full_house_says_so(studio, page):
    before = studio.kernels()
    assert studio.state() == dict(ready=False, words="All places are taken (pages: 1). The studio opens here as soon as one is free.")
    answer = studio.ask(f"/?theme=light&token={studio.token}")
    assert (answer.status, studio.kernels()) == (503, before)
    assert "The studio is full (pages: 1): close one that is open" in answer.body


def test_nobody_else_can_say_farewell_for_a_page(studio, page):
    assert "_xsrf=" in page.cookies                         # which it sends back when it closes
    assert studio.ask(f"/voila/api/shutdown/{page.kernel}", "POST", Cookie=page.cookies).status == 403 and studio.lives(page)


def test_a_closed_page_ends_its_kernel(studio, page):
    assert studio.lives(page)
    page.socket.close()
    assert browser.soon(lambda: not studio.lives(page), 90)


def test_a_python_file_in_its_folder_is_not_run(studio, page): assert not [*studio.folder.glob("*.sprung")]


# ---- the rules of a kernel's life, by kernels that do little

def living(test, **rules):
    "Run `test(kernels, kernel, client)` with a kernel that has done something. A test that is impatient becomes so by itself."
    async def run():
        kernels = Kernels(cull_interval=1, **rules)
        try:
            kernel = await kernels.start_kernel()
            client = kernels.get_kernel(kernel).client()
            client.start_channels()
            await client.wait_for_ready(SECONDS)
            await test(kernels, kernel, client)
            client.stop_channels()
        finally: await kernels.shutdown_all()
    asyncio.run(run())


async def ends(kernels, kernel) -> bool:
    for _ in range(5 * SECONDS):
        if kernel not in kernels: return True
        await asyncio.sleep(0.2)
    return False


def test_a_kernel_whose_page_never_came_ends():
    async def test(kernels, kernel, client):
        kernels.patience = 1
        assert await ends(kernels, kernel)
    living(test)


def test_a_page_that_nobody_touches_loses_its_kernel():
    async def test(kernels, kernel, client):
        kernels.notify_connect(kernel)
        assert await ends(kernels, kernel)
    living(test, patience=600, cull_idle_timeout=1)


def test_a_page_that_is_still_being_made_is_waited_for_and_one_that_left_is_not():
    async def test(kernels, kernel, client):
        asked = client.execute("import time; time.sleep(600)")
        while (await client.get_iopub_msg(SECONDS))["parent_header"].get("msg_id") != asked: pass
        async with asyncio.timeout(SECONDS):
            while kernels.kernel_model(kernel)["execution_state"] != "busy": await asyncio.sleep(0.1)
        kernels.patience = 1
        await asyncio.sleep(3)
        assert kernel in kernels
        kernels.notify_connect(kernel)
        kernels.notify_disconnect(kernel)
        assert await ends(kernels, kernel)
    living(test)


def test_a_page_that_comes_back_keeps_its_kernel():
    async def test(kernels, kernel, client):
        kernels.notify_connect(kernel)
        kernels.patience = 1
        kernels.notify_disconnect(kernel)
        kernels.notify_connect(kernel)
        await asyncio.sleep(3)
        assert kernel in kernels
    living(test)


def test_two_that_come_at_once_do_not_share_a_place(monkeypatch):
    monkeypatch.setattr(module, "LEAVING_SECONDS", 1)
    async def run():
        kernels = Kernels(pages=1)
        try: return await asyncio.gather(kernels.start_kernel(), kernels.start_kernel(), return_exceptions=True), len(kernels)
        finally: await kernels.shutdown_all()
    (first, second), count = asyncio.run(run())
    assert isinstance(first, str) and isinstance(second, HTTPError) and second.status_code == 503 and count == 1


def test_one_that_is_away_loses_its_place_to_somebody_who_comes(monkeypatch):
    monkeypatch.setattr(module, "AWAY_SECONDS", 1)
    async def test(kernels, kernel, client):
        kernels.notify_connect(kernel)
        assert kernels.full
        kernels.notify_disconnect(kernel)
        await asyncio.sleep(1.5)
        assert not kernels.full and kernel in kernels
        other = await kernels.start_kernel()
        assert kernel not in kernels and other in kernels
    living(test, pages=1)


# ---- five people at once

class Guest:
    "A page of somebody's without a browser: it has the states of the page's widgets, and sends what a page sends."
    def __init__(self, studio: Neighbour):
        self.studio, self.session, self.states, self.said, self.news = studio, uuid.uuid4().hex, {}, [], []
        answer = studio.ask(f"/?theme=light&token={studio.token}")
        assert answer.status == 200, answer.reason
        self.kernel = re.search(r'"kernelId": "([\w-]+)"', answer.body)[1]
        self.cookies = "; ".join(cookie.split(";")[0] for cookie in answer.headers.get_all("Set-Cookie"))
        self.connect()
        self.send("comm_open", comm_id=uuid.uuid4().hex, target_name="jupyter.widget.control", data={})
        self.send("comm_msg", comm_id=self.opened, data=dict(method="request_states"))
        self.hear(lambda: self.parts(description="Generate"))

    def connect(self):
        "As a browser connects, the first time and after a lost connection."
        host = f"127.0.0.1:{self.studio.port}"
        self.line = websocket.create_connection(f"ws://{host}/api/kernels/{self.kernel}/channels?session_id={self.session}", timeout=2 * SECONDS,
                                                cookie=self.cookies, origin=f"http://{host}", subprotocols=[module.PROTOCOL])

    def send(self, kind: str, comm_id: str, **content):
        if kind == "comm_open": self.opened = comm_id
        header = dict(msg_id=uuid.uuid4().hex, msg_type=kind, session=self.session, username="", version="5.3", date="2026-01-01T00:00:00Z")
        message = dict(header=header, parent_header={}, metadata=dict(version="1.0.0"), content=dict(comm_id=comm_id, **content))
        self.line.send_binary(serialize_msg_to_ws_v1(message, "shell", lambda part: json.dumps(part).encode()))

    def hear(self, true, seconds: float = 2 * SECONDS):
        "Take what the kernel says until something is so."
        ends = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < ends, self.said
            try: _, (header, _, _, content, *_) = deserialize_msg_from_ws_v1(self.line.recv())
            except websocket.WebSocketTimeoutException: raise AssertionError([words[-200:] for words in self.news[-4:]]) from None
            self.take(json.loads(header)["msg_type"], json.loads(content))
        return found

    def take(self, kind: str, content: dict):
        data = content.get("data") or {}
        if data.get("method") == "update_states":
            for key, each in data["states"].items(): self.states[key] = each["state"]
        elif kind in ("comm_open", "comm_msg") and "state" in data:
            self.states.setdefault(content["comm_id"], {}).update(data["state"])
            self.news.append(words := str(data["state"].get("value")))
            if "voicelab-said" in words: self.said.append(html.unescape(re.sub("<[^>]+>", "", words)))

    def parts(self, **wanted) -> list[str]:
        "The widgets that have these values."
        return [key for key, state in self.states.items() if all(state.get(name) == value for name, value in wanted.items())]

    def set(self, part: str, **state): self.send("comm_msg", comm_id=part, data=dict(method="update", state=state, buffer_paths=[]))

    def fill(self, description: str, value): self.set(self.parts(description=description)[0], value=value)

    def press(self, description: str, place: int = 0):
        self.send("comm_msg", comm_id=self.parts(description=description)[place], data=dict(method="custom", content=dict(event="click")))

    def turn_to(self, title: str, has: str):
        "Open a tab, and wait for a part of it."
        (bar,) = [key for key, state in self.states.items() if "titles" in state and "at" in state]
        self.set(bar, at=self.states[bar]["titles"].index(title))
        self.hear(lambda: self.parts(description=has))

    def sounds(self) -> list[str]:
        "The results in the page, as they are played."
        values = [str(state.get("value")) for state in self.states.values()]
        return [found[1] for value in values if (found := re.search("aria-label='result'.* src='([^']+)'", value, re.DOTALL))]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    "A studio with five places and five people in it, and the queue for its model."
    home, folder, root = (tmp_path_factory.mktemp(name) for name in ("home", "folder", "root"))
    words = [f"--port={(port := browser.free_port())}", "--no-browser", f"--Voila.connection_dir_root={root}", NO_PINGS]
    command = [str(Path(sys.executable).with_name("voicelab")), "studio", "--pages", "5", "--", *words]
    with browser.serving(command, f"http://127.0.0.1:{port}", home, folder) as log:
        studio = Neighbour(port, folder, log)
        assert browser.soon(lambda: studio.state()["ready"], 120), studio.state()
        with ThreadPoolExecutor(5) as several: guests = [*several.map(Guest, [studio] * 5)]
        yield studio, guests, SharedTurns(next(root.glob("*")) / "queue")


TEXTS = ("Good evening.", "Hello there.", "One more.", "Not today.", "Thank you.")


def test_five_people_wait_in_turn_and_hear_themselves_only(shared):
    _, guests, queue = shared
    for guest in guests: guest.said.clear()
    with queue:                                             # somebody is first
        for place, (guest, text) in enumerate(zip(guests, TEXTS), 1):
            guest.fill("text", text)
            guest.press("Generate")
            words = f"Waiting for the model: {'one is' if place == 1 else f'{place} are'} before you."
            guest.hear(lambda: words in guest.said)
        guests[2].line.sock.close()                         # a tunnel
    for guest in guests:
        if guest is guests[2]: guest.connect()              # the same page, out of the tunnel
        guest.hear(lambda: "Done." in guest.said)
    heard = [guest.hear(guest.sounds) for guest in guests]
    assert [len(each) for each in heard] == [1] * 5 and len({each[0] for each in heard}) == 5
    for guest, own in zip(guests, TEXTS):
        known = json.dumps(guest.states)
        assert own in known and not any(text in known for text in TEXTS if text != own)


@pytest.fixture(scope="module")
def swept(shared):
    "What the first one's sweep said while somebody else, who asked during it, was served. It is kept in the studio's folder."
    _, (guest, other, *_), queue = shared
    guest.turn_to("Sweep", "Try one cell")
    guest.fill("texts", "Hi.\nYes.")
    for each in (guest, other): each.said.clear()
    with queue:
        guest.press("Run")
        guest.hear(lambda: "Waiting for the model: one is before you." in guest.said)
        other.press("Generate")
        other.hear(lambda: "Waiting for the model: 2 are before you." in other.said)
    other.hear(lambda: "Done." in other.said)
    guest.hear(lambda: "4 cells, 4 made" in guest.said)
    return [*guest.said]


def test_a_sweep_lets_others_go_first_between_two_cells(shared, swept):
    _, (guest, *_), _ = shared
    assert any("before you" in words for words in swept[swept.index("0 of 4 cells"):swept.index("4 of 4 cells")])
    guest.set(guest.parts(description="seeds")[-1], value="0-999")          # the first is the tuner's
    guest.hear(lambda: "cells: at most 1000 in a shared studio, got 4000" in json.dumps(guest.states))


def test_nobody_reaches_what_another_has_saved(shared, swept):
    studio, guests, _ = shared
    other = guests[3]
    (mine,) = studio.folder.glob("studio/*")
    assert not any(path.stat().st_mode & 0o077 for path in [mine, *mine.rglob("*")])
    name = next(mine.rglob("*_generated_*.wav")).relative_to(studio.folder)
    for place in ("", "files/", "voila/files/", "static/", "voila/static/", "api/contents/", "nbconvert/html/", "voila/render/", "view/"):
        for up in ("", "../", "%2e%2e/%2e%2e/", "../" * 9 + str(studio.folder)[1:] + "/"):
            answer = studio.ask(f"/{place}{up}{name}?token={studio.token}")
            assert answer.status in (400, 403, 404) and not answer.body.startswith("RIFF"), (place, up, answer.status)
    for title, has in (("Sweep", "Try one cell"), ("Study", "Cost"), ("Listening test", "Begin"), ("Voices", "Use in the tuner")): other.turn_to(title, has)
    for path in (str(mine), f"../{mine.name}/sweep-board", str(studio.folder), "/etc"):
        for folder in other.parts(description="folder"): other.set(folder, value=path)
        for owners in other.parts(description="its consent"): other.set(owners, value="mine")
        other.press("Save all")                             # its answer is that of Open beside it
        for button in ("Open", "Open the folder", "Cost"):
            for place in range(len(other.parts(description=button))):
                before = len(other.news)
                other.press(button, place)
                other.hear(lambda: any("folder: must be in" in words for words in other.news[before:]))
    guests[1].fill("save as", "a calm one")                # with spaces: base64 of a sound may hold any four letters
    guests[1].press("Save")
    guests[1].hear(lambda: "Saved as a calm one." in guests[1].said)
    other.fill("save as", "mine")
    other.press("Save")
    other.hear(lambda: "Saved as mine." in other.said)
    assert "a calm one" not in json.dumps(other.states)
    visitors = {*studio.folder.glob("studio/visitor_*")}
    assert len(visitors) == 3 and {*studio.folder.glob("studio/*")} == visitors > {mine}


def test_code_that_is_sent_to_a_page_is_not_run_and_odd_messages_do_no_harm(shared):
    _, guests, _ = shared
    guest = guests[4]
    guest.send("execute_request", comm_id="", code="open('trap', 'w')", silent=False)
    for wrong in (b"", bytes(8), b"\xff" * 8, b"\xff" * 16): guest.line.send_binary(wrong)     # one would keep the server busy
    guest.fill("text", "Still here.")
    guest.said.clear()
    guest.press("Generate")
    guest.hear(lambda: "Done." in guest.said)
    assert not [*guest.studio.folder.rglob("trap")]


def test_a_page_deletes_what_it_kept(shared):
    studio, (*_, guest), _ = shared
    before = {*studio.folder.glob("studio/*")}
    guest.turn_to("Sweep", "Try one cell")
    guest.press("Run")
    guest.hear(lambda: any(" made" in words for words in guest.said))
    assert len({*studio.folder.glob("studio/*")} - before) == 1
    guest.turn_to("What is kept", "I mean it: this can't be undone")
    guest.fill("I mean it: this can't be undone", True)
    guest.press("Delete all of it")
    guest.hear(lambda: "It is deleted." in guest.said)
    assert {*studio.folder.glob("studio/*")} == before
    guest.hear(lambda: "has been deleted or moved since it was shown; Run makes it anew" in json.dumps(guest.states))
