# SPDX-License-Identifier: MIT
"""nginx under wrk: bodies compared, compression, proxying, a reload under load, worker users."""

import gzip
import hashlib
import os
import random
import re
import signal
import urllib.request

import harness

NEEDS = ["/usr/sbin/nginx|nginx", "wrk"]
WEIGHT = 6
KILLS = True  # workers give up the right to remove the regions they made

CONFIG = """
daemon off; master_process on; worker_processes 2; pid {work}/nginx.pid;
error_log stderr error; {user}
events {{ worker_connections 256; }}
http {{
    access_log off; server_tokens off;
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    types {{ text/plain txt; }} default_type application/octet-stream;
    gzip on; gzip_min_length 100; gzip_types text/plain; sendfile {sendfile};
    server {{
        listen 127.0.0.1:{port}; root {work}/files; autoindex on;
        location /proxied/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_buffers 8 4k; }}
        location /rewrite/ {{ rewrite ^/rewrite/(.*)-(.*)$ /$1$2 break; }}
    }}
}}
"""



def fetch(port, path, packed=False):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}")
    if packed:
        request.add_header("Accept-Encoding", "gzip")
    with urllib.request.urlopen(request, timeout=60 * harness.LIMITS_SCALE) as answer:
        body = answer.read()
        return gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body


def check_bodies(stage, port, files):
    for name, body in files.items():
        for path in (name, f"proxied/{name}", f"rewrite/{name[:2]}-{name[2:]}"):
            for packed in (False, True):
                got = fetch(port, path, packed)
                stage.require(got == body, f"/{path}: {len(got)} bytes differ from the file's "
                              f"{len(body)}, packed {packed}")
    listing = fetch(port, "").decode()
    stage.note("listing", hashlib.sha256(
        re.sub(r"\d\d-\w{3}-\d{4} \d\d:\d\d", "DATE", listing).encode()).hexdigest())


def load(stage, port, name, seconds, reloading=False):
    """wrk for some seconds, and again until a request was answered at all."""
    text, runs = "", 0
    while not re.search(r"[1-9]\d* requests in", text) and runs < 20:
        done = stage.run(["wrk", "-t2", "-c16", f"-d{seconds}s", "--timeout", "60s",
                          f"http://127.0.0.1:{port}/{name}"], note=False, limit=60)
        text, runs = done.out.decode(), runs + 1
        # Old workers close idle connections at a reload, which wrk calls read errors.
        clean = "Non-2xx" not in text and (reloading or "Socket errors" not in text)
        stage.require(clean, f"wrk on {name}:\n{text}")
    stage.require(runs < 20, f"wrk on {name}:\n{text}")


def workers(server):
    return [pid for pid, stat in harness.descendants(server.pid).items() if stat[1] not in "ZX"]


def run(stage):
    chance = random.Random(2)
    words = [bytes(chance.choices(b"abcdefgh ", k=9)) for _ in range(500)]
    files = {}
    for number, size in enumerate((0, 1, 99, 4096, 70000, 1500000)):
        files[f"a{number}.txt"] = b" ".join(chance.choices(words, k=size // 10 + 1))[:size]
        files[f"b{number}.bin"] = chance.randbytes(size)
    for name, body in files.items():
        stage.write(f"files/{name}", body)
    port = harness.free_port()
    user = "user www-data;" if os.geteuid() == 0 else ""
    for sendfile in ("on", "off") if stage.long else ("on",):
        stage.write("nginx.conf", CONFIG.format(work=stage.work, port=port, user=user,
                                                sendfile=sendfile))
        nginx = "/usr/sbin/nginx" if os.path.exists("/usr/sbin/nginx") else "nginx"
        server = stage.start([nginx, "-p", stage.work, "-e", "stderr", "-c",
                              stage.work / "nginx.conf"])
        stage.wait_for(lambda: harness.listens(port), 20, "nginx to listen")
        check_bodies(stage, port, files)
        load(stage, port, "a4.txt", 10 if stage.long else 1)
        load(stage, port, "proxied/a3.txt", 10 if stage.long else 1)
        old = set(workers(server))
        os.kill(server.pid, signal.SIGHUP)
        load(stage, port, "b3.bin", 5 if stage.long else 1, reloading=True)
        stage.wait_for(lambda: not old & set(workers(server)), 20, "the old workers to leave")
        check_bodies(stage, port, files)
        stage.look(server.pid)
        for pid in workers(server)[:1]:
            stage.look(pid)
        stage.stop(server, signal.SIGQUIT)
