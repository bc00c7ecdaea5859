"""A conversation with the echo server through Chromium, from the page that the server itself shows.

    chromium.py ECHO_SERVER

Starts the server and a headless browser, plays every scenario in it. One line for each scenario, then
"N passed, M failed". With WSLOOP_DEFLATE=shared or dedicated both sides compress. Needs `chromium` and `chromedriver` on
the path.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

MODE = os.environ.get("WSLOOP_DEFLATE", "off")  # of the server
DEADLINE = 30  # seconds, for one scenario

# Connects, or says that it cannot; the messages that come wait in a queue.
PRELUDE = """
const done = arguments[arguments.length - 1];
const connect = (url) => new Promise((resolve, reject) => {
  const ws = new WebSocket(url);
  ws.binaryType = "arraybuffer";
  const queue = [], waiting = [];
  ws.onmessage = (event) => waiting.length ? waiting.shift()(event.data) : queue.push(event.data);
  const next = () => queue.length ? Promise.resolve(queue.shift()) : new Promise((take) => waiting.push(take));
  const closed = new Promise((take) => { ws.onclose = (event) => take(event); });
  ws.onopen = () => resolve({ ws, next, closed });
  ws.onerror = () => reject(new Error("refused"));
});
const own = `ws://${location.host}/`;
const check = (what, holds) => { if (!holds) throw new Error(what); };
const play = async () => { %s };
play().then((result) => done({ result: result ?? null }), (error) => done({ error: String(error) }));
"""

EXTENSIONS = """
const { ws } = await connect(own);
return ws.extensions;
"""
TEXT = """
const { ws, next } = await connect(own);
for (let n = 0; n < 200; n += 1) {
  const text = JSON.stringify({ n, name: "something that is always the same", emoji: "\\u{1F600}".repeat(n) });
  ws.send(text);
  check(`message ${n}`, (await next()) === text);
}
"""
BINARY = """
const { ws, next } = await connect(own);
for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  bytes.fill(7, 0, size >> 1);
  ws.send(bytes);
  const back = new Uint8Array(await next());
  check(`${size} bytes`, back.length === size && back.every((byte, at) => byte === bytes[at]));
}
"""
IN_FLIGHT = """
const { ws, next } = await connect(own);
const texts = Array.from({ length: 2000 }, (_, n) => `${n} `.repeat(n % 100));
for (const text of texts) ws.send(text);
for (const text of texts) check(text, (await next()) === text);
"""
CLOSE = """
const { ws, closed } = await connect(own);
ws.close(3000, "bye");
const event = await closed;
check("the close handshake", event.wasClean && event.code === 3000 && event.reason === "bye");
"""
# The same server under another name is another site.
OTHER_SITE = """
try {
  await connect(own.replace("127.0.0.1", "localhost"));
} catch { return; }
throw new Error("a page of another site was let in");
"""


def main(binary):
    scenarios = [
        ("the page says what was agreed on", page),
        ("extension", extension),
        ("text", lambda browser, _: browser.play(TEXT)),
        ("binary messages of every size", lambda browser, _: browser.play(BINARY)),
        ("many messages in flight", lambda browser, _: browser.play(IN_FLIGHT)),
        ("close handshake", lambda browser, _: browser.play(CLOSE)),
        ("a page of another site is refused", lambda browser, _: browser.play(OTHER_SITE)),
    ]
    failed = 0
    with contextlib.ExitStack() as stack:
        url = start_server(stack, binary)
        browser = Browser(stack)
        for name, play in scenarios:
            begin = time.monotonic()
            try:
                browser.command("POST", "/url", {"url": url})
                play(browser, url)
                print(f"ok chromium: {name} ({time.monotonic() - begin:.2f} s)", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAILED chromium: {name}: {type(error).__name__}: {error}", flush=True)
    print(f"{len(scenarios) - failed} passed, {failed} failed")
    return 1 if failed else 0


def page(browser, _):
    expected = "extensions: none" if MODE == "off" else "extensions: permessage-deflate"
    end = time.monotonic() + DEADLINE
    while expected not in (text := browser.execute("return document.querySelector('#state').textContent")):
        check(time.monotonic() < end, text)
        time.sleep(0.05)


def extension(browser, _):
    extensions = browser.play(EXTENSIONS)
    check(extensions.startswith("permessage-deflate") if MODE != "off" else extensions == "", extensions)


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def start_server(stack, binary):
    server = subprocess.Popen(
        [binary, "--listen", "127.0.0.1:0", "--deflate", MODE], stdout=subprocess.PIPE, text=True
    )
    stack.callback(server.kill)
    line = server.stdout.readline().strip()
    check(line.startswith("listening on ws://"), f"the server's first line is {line!r}")
    return line.removeprefix("listening on ").replace("ws://", "http://") + "/"


class Browser:
    """A session of the W3C WebDriver protocol."""

    def __init__(self, stack):
        driver = subprocess.Popen(
            [shutil.which("chromedriver") or "chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True
        )
        stack.callback(driver.kill)
        self.base = None
        for line in driver.stdout:
            if "started successfully on port" in line:
                self.base = f"http://127.0.0.1:{line.split()[-1].rstrip('.')}"
                break
        check(self.base is not None, "chromedriver did not start")
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        arguments = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", f"--user-data-dir={profile}",
        ]
        options = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
        session = self.request("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self.session = f"/session/{session['sessionId']}"
        stack.callback(lambda: self.request("DELETE", self.session))
        self.command("POST", "/timeouts", {"script": DEADLINE * 1000, "pageLoad": DEADLINE * 1000})

    def request(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=2 * DEADLINE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def command(self, method, path, body):
        return self.request(method, self.session + path, body)

    def execute(self, script):
        return self.command("POST", "/execute/sync", {"script": script, "args": []})

    def play(self, script):
        outcome = self.command("POST", "/execute/async", {"script": PRELUDE % script, "args": []})
        check("error" not in outcome, outcome.get("error"))
        return outcome["result"]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(os.path.abspath(sys.argv[1])))
