"""The controller's own page, in a real browser: it shows a cluster and what becomes of it, and does what is clicked.

    own.py HOLDFAST [PICTURES]     the binary, and a folder for pictures of the page; Chromium is `chromium`

The browser is asked by its DevTools protocol over a pipe, which needs nothing beyond Python.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from check import CLUSTER, HOST, NotYet, Site, call, wait  # noqa: E402

# How long the browser may take for one answer.
ANSWER_S = 30
# What a name of an attacker would be: shown as it is, it is harmless.
EVIL = "<img src=x onerror=document.title='stolen'> & <script>1</script>"


class Browser:
    """One page."""

    def __init__(self, folder):
        self.log = open(os.path.join(folder, "chromium.log"), "ab")
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        # It reads from descriptor 3 and writes to 4.
        arguments = [
            "bash", "-c", 'r=$1 w=$2; shift 2; exec "$@" 3<&"$r" 4>&"$w"', "bash", str(theirs_in), str(theirs_out),
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
            "--disable-features=LocalNetworkAccessChecks,OptimizationHints",
            f"--user-data-dir={tempfile.mkdtemp(dir=folder)}", "--remote-debugging-pipe", "about:blank",
        ]
        self.process = subprocess.Popen(
            arguments, pass_fds=(theirs_in, theirs_out), stdout=self.log, stderr=self.log, start_new_session=True)
        os.close(theirs_in)
        os.close(theirs_out)
        self.number, self.session, self.rest, self.told = 0, None, b"", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end:
            answer = self.receive(end)
            if answer is None:
                break
            if answer.get("id") != self.number:
                self.told.append(answer)
            elif "error" in answer:
                sys.exit(f"browser: {method}: {answer['error']}")
            else:
                return answer["result"]
        sys.exit(f"browser: {method} was not answered within {ANSWER_S} s")

    def receive(self, end):
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.into], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.into, 1 << 16) if ready else b""
            if not chunk:
                return None
            self.rest += chunk
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def ask(self, expression):
        """The value of an expression of JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            sys.exit(f"browser: {expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector):
        """What a reader sees there; nothing where it is hidden."""
        found = f"document.querySelector({json.dumps(selector)})"
        return self.ask(f"((one) => one?.checkVisibility() ? one.innerText : '')({found})")

    def click(self, words, within="body"):
        """Clicks the first button with these words that is seen."""
        find = (f"[...document.querySelectorAll({json.dumps(within + ' button')})]"
                f".find((one) => one.innerText.trim() === {json.dumps(words)} && one.checkVisibility() && !one.disabled)")
        if not self.ask(f"(() => {{ const found = {find}; found?.click(); return found !== undefined; }})()"):
            raise NotYet(f"no button `{words}` in: {self.text(within)}")

    def picture(self, path, width, scheme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        wide = self.ask("document.documentElement.scrollWidth - innerWidth")
        expect(wide <= 0, f"at {width} px the page is {wide} px wider than that")
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
        self.call("Emulation.clearDeviceMetricsOverride")

    def faults(self):
        """What the browser found wrong with the page itself: it throws, or breaks its own policy."""
        self.ask("1")
        found = []
        for event in self.told:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(event["params"]["exceptionDetails"])
            entry = event.get("params", {}).get("entry", {})
            if event.get("method") == "Log.entryAdded" and "Content Security Policy" in entry.get("text", ""):
                found.append(entry)
            if event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] == "error":
                found.append(event["params"]["args"])
        return found

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


faults = []


def expect(holds, words):
    if not holds:
        faults.append(words)
        print(f"FAULT {words}")


def sees(browser, what, selector, *words):
    """Waits until a reader sees these words there."""
    def ready():
        text = browser.text(selector)
        missing = [word for word in words if word not in text]
        if missing:
            raise NotYet(f"without {missing}: {text}")
        return text

    found = wait(what, ready)
    print(f"  {what}")
    return found


def clicks(browser, words, within="body"):
    wait(f"the button `{words}`", lambda: browser.click(words, within))


def nodes(site, folder):
    """Address and process of the master, and the address of the other one."""
    _, answer = call(site.controller, "GET", f"{CLUSTER}/status")
    address = {node["role"]: node["addr"] for node in answer["data"]["shards"][0]["nodes"]}
    pids = {f"{node['host']}:{node['port']}": node["pid"] for node in site.read(folder)["nodes"]}
    pid = pids.get(address.get("master"))
    if len(address) != 2 or pid is None:
        raise NotYet(answer)
    return address["master"], pid, address["slave"]


def shows(browser, site, folder):
    """The cluster, its nodes, and that all is well."""
    master, _, replica = wait("both nodes", lambda: nodes(site, folder))
    sees(browser, "that all is well", "#state", "healthy")
    sees(browser, "the cluster and both nodes", "#main", "local/main", master, replica, "master", "replica", "16,384 slots")
    sees(browser, "the reader's role", "#who", "admin")
    expect(browser.text("#wrong") == "", f"something is wrong: {browser.text('#wrong')}")
    expect(browser.ask("document.querySelectorAll('.bar rect').length") == 1, "the bar of slots has not one part")


def switches_over(browser, site, folder):
    """What is clicked is asked about first, and done then."""
    master, _, replica = wait("both nodes", lambda: nodes(site, folder))
    clicks(browser, "Make master", "#main")
    sees(browser, "what a switchover would do", "#ask", f"Make {replica} the master", master)
    clicks(browser, "Leave it as it is", "#ask")
    expect(not browser.ask("document.getElementById('ask').open"), "the dialog stays")
    clicks(browser, "Make master", "#main")
    clicks(browser, "Make it the master", "#ask")
    sees(browser, "that it is done", "#told", f"{replica} is the master of shard 0")
    sees(browser, "the operator in the events", "#main .events", "switchover", "(no token)")
    wait("the page to show the new master", lambda: leads(browser, replica))


def leads(browser, address):
    row = browser.ask("document.querySelector('#main b.master')?.closest('tr')?.innerText ?? ''")
    if address not in row:
        raise NotYet(row)


def fails_over(browser, site, folder):
    wait("a healthy cluster", site.is_healthy)
    _, pid, replica = wait("both nodes", lambda: nodes(site, folder))
    os.kill(pid, signal.SIGKILL)
    wait("the page to show the successor", lambda: leads(browser, replica))
    sees(browser, "the failover in the events", "#main .events", "failover")
    wait("a healthy cluster", site.is_healthy)
    sees(browser, "that all is well again", "#state", "healthy")


def says_what_others_wrote(browser, site):
    """Words of others are text, whatever is in them; and a pause ends by a click."""
    status, answer = call(site.controller, "PATCH", CLUSTER, {"paused": True, "reason": EVIL})
    expect(status == 200, f"no pause: {status}: {answer}")
    sees(browser, "an alarm, and what to do", "#wrong", EVIL, "What to do:")
    expect(browser.ask("document.images.length") == 0, "a name has become an image")
    expect("stolen" not in browser.ask("document.title"), "a name has become a script")
    clicks(browser, "Let failovers happen again", "#main")
    clicks(browser, "Let them happen", "#ask")
    sees(browser, "that it is done", "#told", "happen by themselves again")
    sees(browser, "that all is well again", "#state", "healthy")


def is_quiet(browser, site, folder):
    """What is shown is called old as soon as nobody tells it any more, and nobody may act on it."""
    pid = site.read(folder)["controller"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        sees(browser, "that the controller is silent", "#silence", "What is shown is of", "too long to answer")
        expect("no answer" in browser.ask("document.title"), "the title does not say so")
        expect("Make master" not in browser.text("#main"), "there are buttons all the same")
    finally:
        os.kill(pid, signal.SIGCONT)
    sees(browser, "that it is heard again", "#state", "healthy")
    wait("the silence to end", lambda: is_hidden(browser, "#silence"))


def is_hidden(browser, selector):
    text = browser.text(selector)
    if text != "":
        raise NotYet(text)


def pictures(browser, folder):
    os.makedirs(folder, exist_ok=True)
    for width in (360, 1600):
        for scheme in ("light", "dark"):
            browser.picture(os.path.join(folder, f"page-{width}-{scheme}.png"), width, scheme)
    print(f"  pictures are in {folder}")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("browser: SIGTERM"))
    folder = tempfile.mkdtemp(prefix="holdfast-page-")
    site, browser = Site(), None
    try:
        site.start(sys.argv[1], folder)
        browser = Browser(folder)
        browser.call("Page.navigate", url=f"http://{HOST}:{site.controller}/")
        print("the controller's own page shows:")
        shows(browser, site, folder)
        pictures(browser, sys.argv[2] if len(sys.argv) > 2 else os.path.join(folder, "pictures"))
        switches_over(browser, site, folder)
        fails_over(browser, site, folder)
        says_what_others_wrote(browser, site)
        is_quiet(browser, site, folder)
        found = browser.faults()
        expect(not found, f"the browser found wrong: {found}")
    finally:
        if browser:
            browser.close()
        site.stop()
    if faults:
        sys.exit(f"browser: {len(faults)} faults; logs are in {folder}")
    shutil.rmtree(folder)
    print("browser: the page shows what is, and does what is clicked")


main()
