# SPDX-License-Identifier: MIT
"""Programs that restrict system calls, their own or those of what they start, and kill for others:
man with its pipeline, bubblewrap with a filter, the sandboxed half of sshd."""

import contextlib
import os
import shutil
import struct

import harness

NEEDS = ["man", "groff"]
WEIGHT = 3
KILLS = True  # a sandboxed process may not remove its region

PAGE = r"""'\" t
.TH SAMPLE 1 "2020-01-01"
.SH NAME
sample \- a page with a table
.SH DESCRIPTION
.TS
l l.
one	two
.TE
Words in \fBbold\fR and \fIitalics\fR, again and again.
"""

WORK = """my %h; for my $i (1 .. 60000) { $h{$i % 5000} .= "x" x ($i % 300); delete $h{$i % 77} }
print length(join "", map { $h{$_} } sort keys %h), "\\n"; my @big = (1) x 3_000_000; print scalar @big, "\\n";"""

# Numbers of x86-64: what no program here needs, and a heap even less.
ODD_CALLS = [101, 310, 321, 323, 27, 425, 41, 165, 175, 246]


def filter_that_kills(numbers):
    """A filter for seccomp(2), as bytes: loads the number, and a jump for each that is odd."""
    code = struct.pack("=HBBI", 0x20, 0, 0, 0)
    for number in numbers:
        code += struct.pack("=HBBI", 0x15, 0, 1, number) + struct.pack("=HBBI", 0x06, 0, 0, 1 << 31)
    return code + struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)


def run(stage):
    page = stage.write("sample.1", PAGE * (40 if stage.long else 6))
    for _ in range(5 if stage.long else 1):
        stage.run(["man", "-P", "cat", "-E", "UTF-8", "-l", page], env={"MANWIDTH": "80"})
    if shutil.which("bwrap") and os.uname().machine == "x86_64":
        bubblewrap(stage)
    if os.path.exists("/usr/sbin/sshd") and shutil.which("ssh"):
        with empty_root() as there:
            if there:
                shell(stage)


@contextlib.contextmanager
def empty_root():
    """Where sshd locks its sandboxed half in: made, and removed, where nobody has started one yet."""
    try:
        os.mkdir("/run/sshd", 0o755)
    except FileExistsError:
        yield True
    except OSError:
        yield False
    else:
        try:
            yield True
        finally:
            os.rmdir("/run/sshd")


def bubblewrap(stage):
    stage.write("filter", filter_that_kills(ODD_CALLS))
    script = stage.write("work.pl", WORK)
    start = "exec bwrap --dev-bind / / --unshare-ipc --seccomp 9"
    if stage.run(["sh", "-c", f"{start} true 9<filter"], expect=None, note=False).status != 0:
        return  # a machine that lets nobody make namespaces
    stage.run(["sh", "-c", f"{start} perl {script} 9<filter"], env={"PERL_HASH_SEED": "0"})
    stage.run(["sh", "-c", f"{start} perl -e 'socket(S, 1, 1, 0)' 9<filter"], expect=None)


def shell(stage):
    """Sessions of ssh: what talks to an unknown client runs under a filter that kills."""
    port = harness.free_port()
    for name in ("host", "user"):
        stage.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name], keep=True)
    (stage.work / "known").write_text("")
    config = stage.write("sshd_config", f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {stage.work}/host
AuthorizedKeysFile {stage.work}/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
LogLevel QUIET
""")
    server = stage.start(["/usr/sbin/sshd", "-D", "-e", "-f", config], expect=None, keep=True)
    stage.wait_for(lambda: harness.listens(port), 60, "sshd")
    for number in range(20 if stage.long else 4):
        stage.run(["ssh", "-F", "none", "-i", "user", "-p", str(port), "-o", "BatchMode=yes",
                   "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={stage.work}/known",
                   "-o", "LogLevel=ERROR", "127.0.0.1", f"echo {number}; seq 1 2000 | md5sum"])
    stage.stop(server)
