"""A page of somebody else, in a real browser, asks the HTTP ports of a cluster for what only its operator may do.

    check.py HOLDFAST      the binary; Chromium is `chromium`

Between the browser and each port is a relay that passes all bytes on as they are, as a forward by ssh does, and keeps
them: so it is known what the browser has sent, and what it was answered. A page whose name leads to a port (DNS
rebinding) is one that the relay itself serves, at the very origin of the port behind it.
"""

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
HOST = "127.0.0.1"
# The page's names; the browser is told to look for both here.
FOREIGN, REBOUND = "evil.example", "rebound.example"
BASE_PORT = 17000
PATIENCE_S = 60
CLUSTER = "/api/v1/namespaces/local/clusters/main"

UNASKED = [
    "fetch-plain", "fetch-untyped", "fetch-urlencoded", "fetch-multipart", "xhr-plain", "beacon-plain",
    "form-plain", "form-urlencoded", "form-multipart", "form-sandboxed",
]
# The browser asks first, by OPTIONS.
ASKED = ["asked-json", "asked-put", "asked-delete"]


def page():
    with open(os.path.join(HERE, "page.html"), "rb") as file:
        return file.read()


def html(body):
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


class Relay:
    """Passes bytes on to a port, and keeps them; `GET /page` it answers itself."""

    def __init__(self, port):
        self.to = port
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.talks = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        first = client.recv(1 << 16)
        if first.startswith(b"GET /page "):
            client.sendall(html(page()))
            client.close()
            return
        asked, answered = bytearray(first), bytearray()
        self.talks.append((asked, answered))
        server = socket.create_connection((HOST, self.to))
        try:
            server.sendall(first)
        except OSError:
            pass
        back = threading.Thread(target=self.carry, args=(server, client, answered), daemon=True)
        back.start()
        self.carry(client, server, asked)
        back.join()

    @staticmethod
    def carry(source, target, kept):
        try:
            while chunk := source.recv(1 << 16):
                kept.extend(chunk)
                target.sendall(chunk)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def exchanges(self):
        """Of each request: method, path, heads, and the status of the answer."""
        found = []
        for asked, answered in list(self.talks):
            statuses = [int(first.split(" ")[1]) for first, _ in messages(bytes(answered))]
            for number, (first, heads) in enumerate(messages(bytes(asked))):
                method, path, _ = first.split(" ")
                found.append((method, path, heads, statuses[number] if number < len(statuses) else None))
        return found


def messages(stream):
    """First line and heads of each message of HTTP; all of ours say how long their bodies are."""
    at = 0
    while (end := stream.find(b"\r\n\r\n", at)) >= 0 and stream.find(b"HTTP/1.1", at, end) >= 0:
        first, *lines = stream[at:end].decode("latin-1").split("\r\n")
        heads = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        yield first, heads
        at = end + 4 + int(heads.get("content-length", 0))


class Home(http.server.BaseHTTPRequestHandler):
    """Where the foreign page is, and where both pages tell what came of it."""

    told = None

    def do_GET(self):
        self.wfile.write(html(page()))
        self.close_connection = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        Home.told = json.loads(body)

    def log_message(self, *_):
        pass


class NotYet(Exception):
    """Why something is still waited for."""


def wait(what, ready):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ready()
        except NotYet as why:
            if time.monotonic() > end:
                sys.exit(f"browser: {what}: not within {PATIENCE_S} s: {why}")
            time.sleep(0.1)


def call(port, method, path, body=None, token=None):
    """As a program asks: status and JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", data, method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def command(port, *words):
    with socket.create_connection((HOST, port), timeout=10) as connection:
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
        connection.sendall(b"*%d\r\n%s" % (len(words), parts))
        return connection.recv(1 << 16)


class Site:
    """A cluster of one shard with its balancers, on this machine."""

    process = None

    def start(self, holdfast, folder):
        self.log = open(os.path.join(folder, "up.log"), "wb")
        arguments = [holdfast, "up", "--dir", os.path.join(folder, "cluster"), "--shards", "1", "--base-port", str(BASE_PORT)]
        self.process = subprocess.Popen(arguments, stdout=self.log, stderr=self.log, start_new_session=True)
        state = wait("a cluster", lambda: self.read(folder))
        self.controller = urllib.parse.urlsplit(state["controller"]["url"]).port
        self.balancer = state["balancers"][0]["port"]
        with open(os.path.join(folder, "cluster", "secret"), encoding="utf-8") as file:
            self.secret = file.read().strip()
        master = next(node for node in state["nodes"] if node["role"] == "master")
        self.node, self.clients = master["admin_port"], master["announced_port"]
        wait("a healthy cluster", self.is_healthy)

    def read(self, folder):
        if self.process.poll() is not None:
            with open(self.log.name, encoding="utf-8") as log:
                sys.exit(f"browser: `holdfast up` ended: {log.read()}")
        try:
            with open(os.path.join(folder, "cluster", "cluster.json"), encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError) as error:
            raise NotYet(error) from error

    def is_healthy(self):
        try:
            status, answer = call(self.controller, "GET", f"{CLUSTER}/status")
        except OSError as error:
            raise NotYet(error) from error
        if status != 200 or not answer["data"]["healthy"]:
            raise NotYet(answer)

    def state(self):
        """What an operator could have changed."""
        namespaces = call(self.controller, "GET", "/api/v1/namespaces")
        cluster = call(self.controller, "GET", CLUSTER)
        balancer = call(self.balancer, "GET", "/api/v1/state", token=self.secret)[1]
        frontends = sorted((json.dumps(one["listen"]), json.dumps(one["backend"])) for one in balancer["frontends"])
        return namespaces, cluster, balancer["term"], frontends, command(self.clients, "GET", "stolen")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE_S)


def visit(folder, url):
    """Opens a page in a browser of its own; what the page tells."""
    Home.told = None
    rules = ", ".join(f"MAP {name} {HOST}" for name in (FOREIGN, REBOUND))
    # Newer browsers ask their user before a page of the internet may ask this machine: here none does.
    arguments = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
        "--disable-features=LocalNetworkAccessChecks,OptimizationHints",
        f"--user-data-dir={tempfile.mkdtemp(dir=folder)}", f"--host-resolver-rules={rules}", url,
    ]

    def told():
        if Home.told is None:
            raise NotYet("nothing")
        return Home.told

    with open(os.path.join(folder, "chromium.log"), "ab") as log:
        browser = subprocess.Popen(arguments, stdout=log, stderr=log, start_new_session=True)
        try:
            return wait(f"what {url.split('#')[0]} tells", told)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()


faults = []


def expect(holds, words):
    if not holds:
        faults.append(words)
        print(f"FAULT {words}")


def foreign(folder, site, relays, home):
    """A page of another origin."""
    at = {name: f"http://{HOST}:{relay.port}" for name, relay in relays.items()}
    failover = json.dumps({"options": {}})
    asks = {
        "changes": [
            ["POST", f"{at['controller']}/api/v1/namespaces", json.dumps({"namespace": "stolen"})],
            ["POST", f"{at['controller']}{CLUSTER}/shards/0/failover", failover],
            ["PUT", f"{at['balancer']}/api/v1/desired", json.dumps({"term": 99, "version": 1, "frontends": []})],
            ["POST", f"{at['node']}/metrics", "{}"],
        ],
        "reads": [
            f"{at['controller']}/api/v1/namespaces", f"{at['balancer']}/api/v1/state", f"{at['node']}/metrics",
        ],
        # By a name: at an address of loopback Chromium sends heads with quotes, which RESP cannot read.
        "command": {"url": f"http://{REBOUND}:{relays['clients'].port}/", "text": "\r\nSET stolen 1\r\n"},
        "home": f"{home}/told",
    }
    told = visit(folder, f"{home}/#{urllib.parse.quote(json.dumps(asks))}")
    # A beacon is answered to nobody: its requests may still be on their way.
    targets = [change[1].removeprefix(f"http://{HOST}:") for change in asks["changes"]]

    def arrived():
        return {(way(path), f"{relays[name].port}{path.split('?')[0]}", method, status, heads.get("origin"))
                for name in ("controller", "balancer", "node")
                for method, path, heads, status in relays[name].exchanges() if way(path)}

    def all_here():
        found = {(one[0], one[1]) for one in arrived() if one[3] is not None}
        missing = {(name, target) for name in UNASKED + ASKED for target in targets} - found
        if missing:
            raise NotYet(f"without an answer: {sorted(missing)}; arrived: {sorted(arrived(), key=str)}")

    wait("every request of the page arrives", all_here)
    for name, target, method, status, origin in sorted(arrived(), key=str):
        print(f"  {name:17} {method:8} {target.split('/', 1)[1]:60} {origin or '':28} {status}")
        expect(origin is not None, f"{name} has no Origin")
        if name in ASKED:
            expect(method == "OPTIONS" and status >= 400, f"{name}: {method} to {target}: {status}")
        else:
            expect(method == "POST" and status in (403, 415), f"{name}: {method} to {target}: {status}")
    origins = {origin for *_, origin in arrived()}
    expect(origins == {home, "null"}, f"origins are {origins}")
    for url, answer in told["reads"]:
        expect(answer.startswith("failed"), f"the page has read {url}: {answer}")
    for name, url, answer in told["changes"]:
        is_blind = answer in ("opaque", "sent") or answer.startswith("failed")
        expect(is_blind, f"the page has read {url} by {name}: {answer}")
    # Not HTTP at all: lines of the body would be commands.
    posts = [one for one in relays["clients"].exchanges() if one[0] == "POST"]
    expect(len(posts) >= 3, f"{len(posts)} requests came to where clients speak RESP")
    for asked, answered in relays["clients"].talks:
        expect(b"+OK" not in answered, f"where clients speak RESP, {bytes(asked)!r} was answered {bytes(answered)!r}")


def way(path):
    found = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query).get("way")
    return found[0] if found else None


def rebound(folder, relays, home):
    """Pages whose names lead to the ports: the browser takes each for a page of the port itself."""
    wanted = {
        "controller": (
            [["POST", "/api/v1/namespaces", '{"namespace":"stolen"}'], ["POST", f"{CLUSTER}/shards/0/failover", "{}"],
             ["DELETE", CLUSTER, None]],
            ["/api/v1/namespaces", f"{CLUSTER}/status", "/api/v1/store/export?clear=yes", "/metrics"],
        ),
        "balancer": ([["PUT", "/api/v1/desired", '{"term":99,"version":1,"frontends":[]}']], ["/api/v1/state", "/metrics"]),
        "node": ([["POST", "/metrics", "{}"]], ["/metrics"]),
    }
    for name, (changes, reads) in wanted.items():
        relay = relays[name]
        before = len(relay.exchanges())
        asks = {"changes": changes, "reads": reads, "rebound": True, "home": f"{home}/told"}
        origin = f"http://{REBOUND}:{relay.port}"
        told = visit(folder, f"{origin}/page#{urllib.parse.quote(json.dumps(asks))}")
        for method, path, answer in told["changes"] + [["GET", *read] for read in told["reads"]]:
            print(f"  {name:17} {method:8} {path:60} {origin:28} {answer[:3]}")
            expect(answer.startswith("403: ") and REBOUND in answer, f"{method} {path} of {name}: {answer}")
        asked = [(method, path) for method, path, heads, _ in relay.exchanges()[before:]
                 if heads.get("host") == f"{REBOUND}:{relay.port}" and path != "/favicon.ico"]
        sent = [(method, path) for method, path, _ in changes] + [("GET", path) for path in reads]
        expect(sorted(asked) == sorted(sent), f"{name} was asked {asked}, and not {sent}")


def control(site, relays):
    """The same requests by a program, by the same way, are done: so they would have been seen."""
    before = site.state()
    port = relays["controller"].port
    status, answer = call(port, "POST", "/api/v1/namespaces", {"namespace": "stolen"})
    expect(status == 201, f"a program makes no namespace: {status}: {answer}")
    expect(site.state()[0] != before[0], "a new namespace is not seen")
    status, answer = call(port, "POST", f"{CLUSTER}/shards/0/failover", {})
    expect(status == 200, f"a program cannot switch over: {status}: {answer}")
    expect(site.state()[1] != before[1], "a switchover is not seen")
    expect(command(relays["clients"].port, "SET", "stolen", "1") == b"+OK\r\n", "a client cannot write")
    expect(site.state()[4] != before[4], "a write is not seen")
    nothing = {"term": 99, "version": 1, "frontends": []}
    status, answer = call(relays["balancer"].port, "PUT", "/api/v1/desired", nothing, site.secret)
    expect(status == 200, f"a program cannot close a balancer: {status}: {answer}")
    expect(site.state()[2:4] != before[2:4], "frontends that are gone are not seen")


def main():
    # Also then the cluster ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("browser: SIGTERM"))
    holdfast = sys.argv[1]
    folder = tempfile.mkdtemp(prefix="holdfast-browser-")
    server = http.server.ThreadingHTTPServer((HOST, 0), Home)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://{FOREIGN}:{server.server_address[1]}"
    site = Site()
    try:
        site.start(holdfast, folder)
        ports = {"controller": site.controller, "balancer": site.balancer, "node": site.node, "clients": site.clients}
        relays = {name: Relay(port) for name, port in ports.items()}
        before = site.state()
        print("a page of another place:")
        foreign(folder, site, relays, home)
        print("pages whose name leads here:")
        rebound(folder, relays, home)
        after = site.state()
        expect(after == before, f"something has changed: {before} is now {after}")
        control(site, relays)
    finally:
        site.stop()
    if faults:
        sys.exit(f"browser: {len(faults)} faults; logs are in {folder}")
    shutil.rmtree(folder)
    print("browser: every request has arrived and was refused; nothing was read, nothing has changed")


if __name__ == "__main__":
    main()
