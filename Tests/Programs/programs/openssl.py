# SPDX-License-Identifier: MIT
"""openssl: digests, ciphers, keys and certificates, a TLS session, the speed loop."""

import hashlib
import random
import re

import harness

NEEDS = ["openssl"]
WEIGHT = 5
KILLS = True  # s_server has no other end than a signal

CONFIG = """[req]
distinguished_name=dn
x509_extensions=v3
prompt=no
[dn]
CN=memctl.example.org
O=Example
[v3]
subjectAltName=DNS:memctl.example.org,IP:127.0.0.1
basicConstraints=CA:TRUE
"""


def run(stage):
    stage.write("c.cnf", CONFIG)
    data = random.Random(3).randbytes(4_000_000 if stage.long else 1_000_000)
    stage.write("data", data)
    for digest in ("sha256", "sha3-512", "blake2b512", "md5", "sm3"):
        stage.run(["openssl", "dgst", f"-{digest}", "data"])
    for cipher in ("aes-256-cbc", "aes-128-ctr", "chacha20", "camellia-192-cbc", "aria-256-cfb"):
        words = ["openssl", "enc", f"-{cipher}", "-pbkdf2", "-iter", "2000", "-pass", "pass:x"]
        stage.run([*words, "-S", "0102030405060708", "-in", "data", "-out", "packed"])
        stage.note(cipher, hashlib.sha256((stage.work / "packed").read_bytes()).hexdigest())
        stage.run([*words, "-d", "-S", "0102030405060708", "-in", "packed", "-out", "back"])
        stage.require((stage.work / "back").read_bytes() == data, f"{cipher}: bytes differ")
    stage.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "ed.pem"])
    stage.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ec.pem"])
    stage.run(["openssl", "genrsa", "-out", "rsa.pem", "2048"], scrub=[(r"^[.+*\n]+", "")])
    for key in ("ec", "rsa"):
        stage.run(["openssl", "req", "-new", "-x509", "-config", "c.cnf", "-key", f"{key}.pem",
                   "-days", "3650", "-set_serial", "77", "-out", f"{key}.crt"])
        stage.run(["openssl", "x509", "-in", f"{key}.crt", "-noout", "-serial", "-subject",
                   "-issuer", "-ext", "subjectAltName,basicConstraints"])
        stage.run(["openssl", "verify", "-CAfile", f"{key}.crt", f"{key}.crt"])
        stage.run(["openssl", "dgst", "-sha256", "-sign", f"{key}.pem", "-out", "sig", "data"])
        stage.run(["openssl", "pkey", "-in", f"{key}.pem", "-pubout", "-out", "pub.pem"])
        stage.run(["openssl", "dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "data"])
    stage.run(["openssl", "cms", "-encrypt", "-in", "data", "-binary", "-outform", "DER", "-out",
               "cms", "rsa.crt"])
    stage.run(["openssl", "cms", "-decrypt", "-in", "cms", "-inform", "DER", "-binary", "-inkey",
               "rsa.pem", "-out", "back"])
    stage.require((stage.work / "back").read_bytes() == data, "cms: bytes differ")
    handshakes(stage)
    for what in ("sha256", "aes-128-cbc", "ecdsap256") if stage.long else ("sha256",):
        # Both processes write what they are about to do to one stderr: in any order.
        stage.run(["openssl", "speed", "-seconds", "1", "-bytes", "1024", "-multi", "2", what],
                  keep=True, scrub=[(r"[\d.]+", "N"), (r"^(Got|Doing|Forked|\+).*\n", "")])


def handshakes(stage):
    """Sessions of s_client with an s_server that lives through all of them."""
    port = harness.free_port()
    server = stage.start(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", "ec.crt",
                          "-key", "ec.pem", "-www", "-quiet"], keep=True, expect=None)
    stage.wait_for(lambda: harness.listens(port), 10, "s_server")
    for number in range(60 if stage.long else 15):
        version = ("-tls1_2", "-tls1_3")[number % 2]
        done = stage.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version,
                          "-CAfile", "ec.crt", "-ign_eof", "-verify_return_error"], keep=True,
                         input=b"GET / HTTP/1.0\r\n\r\n")
        text = done.out.decode(errors="replace")
        stage.require("Verify return code: 0 (ok)" in text, "certificate not verified")
        stage.require(re.search(r"HTTP/1.0 200", text), "no page from s_server")
    stage.look(server.pid)
    stage.stop(server)
