# SPDX-License-Identifier: BSD-3-Clause
"""The man pages say what is there, and nothing else: telemetry's fields, drop reasons, signals,
files, variables, options, commands and exit codes. (The keys in weir.conf(5) are a unit test of
conf.)"""

import glob
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

import weir as weir_module
from manual import PAGES, commands, headings, names, read, section, terms
from netns import PATIENCE
from weir import BINARY, ROOT

WEIR, WEIRCTL = read("app/weir.8.md"), read("scripts/weirctl.8.md")
CONF = read("conf/weir.conf.5.md")
CONTROL = f"{ROOT}/scripts/weirctl"
ENDPOINTS = ("/weir/info", "/weir/services", "/weir/backends", "/weir/snat", "/weir/workers",
             "/weir/drops", "/weir/flows")


def run(*command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True,
                          timeout=60 * PATIENCE, **options)


def options_of(text):
    """The options in a help text or a line of the manual."""
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


# ---- weir(8) ----

@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_fields(weir, endpoint):
    answer = weir.telemetry.query(endpoint)
    fields = set(answer[0] if isinstance(answer, list) else answer)
    named = names(section(WEIR, endpoint))
    if endpoint == "/weir/drops":
        named += names(section(WEIR, "DROP REASONS"))
    assert len(named) == len(set(named)), "named twice"
    assert fields - set(named) == set(), "not in weir.8.md"
    assert set(named) - fields == set(), "in weir.8.md only"


def test_endpoints(weir):
    told = {one for one in weir.telemetry.query("/") if one.startswith("/weir/")}
    assert told == set(ENDPOINTS)
    assert told == {title for _, title in headings(WEIR) if title.startswith("/weir/")}


def test_signals(weir):
    """Those that the process catches, reads or ignores, as the kernel tells them."""
    with open(f"/proc/{weir.process.pid}/status") as file:
        masks = dict(re.findall(r"^Sig(Blk|Cgt|Ign):\s+([0-9a-f]+)$", file.read(), re.M))
    mask = int(masks["Blk"], 16) | int(masks["Cgt"], 16) | int(masks["Ign"], 16)
    handled = {number.name for number in signal.Signals
               if number < signal.SIGRTMIN and mask >> (number - 1) & 1}
    assert handled == set(names(section(WEIR, "SIGNALS")))


def test_files(weir):
    """Each is there while a weir runs, but for those of other cases."""
    elsewhere = ("/etc/weir/weir.conf", ".flows6", ".names", "/failed-*")
    for term in terms(section(WEIR, "FILES")):
        for path in re.findall(r"`([^`]+)`", term):
            if path.endswith(elsewhere):
                continue
            own = path.replace("/run/weir/control.sock", f"/run/weir/{weir.instance}/control.sock")
            own = own.replace("NAME", weir.prefix).replace("/run/netns/weir",
                                                           f"/run/netns/{weir.prefix}")
            own = own.replace("/dev/hugepages/", os.path.dirname(weir.flows()[0]["file"]) + "/")
            assert glob.glob(own), own


def test_environment():
    sources = "".join(read(os.path.relpath(path, ROOT)) for folder in ("app", "lib")
                      for path in glob.glob(f"{ROOT}/{folder}/**/*.c", recursive=True))
    asked = set(re.findall(r'getenv\("(\w+)"\)', sources))
    defined = dict(re.findall(r'^#define (\w+) "(\w+)"$', sources, re.M))
    asked |= {defined[name] for name in re.findall(r"getenv\(([A-Z_]+)\)", sources)}
    assert asked == set(names(section(WEIR, "ENVIRONMENT")))


def test_weir_options():
    documented = options_of(" ".join(terms(section(WEIR, "OPTIONS"))))
    assert documented == options_of(run(BINARY, "--help").stdout)


def test_weir_exit_status(tmp_path):
    """The others are of a weir that runs; see test_life.py."""
    assert names(section(WEIR, "EXIT STATUS")) == ["0", "1"]
    assert run(BINARY, "-c", f"{ROOT}/conf/weir.conf", "--check").returncode == 0
    assert run(BINARY, "-c", str(tmp_path / "none"), "--check").returncode == 1
    assert run(BINARY, "--wrong").returncode == 1


# ---- weirctl(8) ----

def test_weirctl_commands():
    said = run(CONTROL, "--help").stdout
    known = re.findall(r"^ {4}([a-z]+) ", said, re.M)
    described = names(section(WEIRCTL, "COMMANDS"))
    assert known and {name for name in described if not name.startswith("-")} == set(known)
    synopsis = commands(section(WEIRCTL, "SYNOPSIS"))
    assert [line.split()[2] for line in synopsis] == known
    for name, line in zip(known, synopsis):
        help_text = run(CONTROL, name, "--help").stdout
        wanted = re.search(r"usage: weirctl \w+ (.*?)\n\n", help_text, re.S).group(1)
        assert line.split()[3:] == [word.upper() if word[0] != "[" else word
                                    for word in wanted.replace("[-h]", "").split()]


def test_weirctl_options():
    known = options_of(run(CONTROL, "--help").stdout.split("options:")[1])
    assert known == options_of(" ".join(terms(section(WEIRCTL, "OPTIONS"))))


def test_protocol(weir):
    """Each request of the manual is understood, and its answer has the manual's members."""
    lines = [line for line in commands(section(WEIRCTL, "PROTOCOL")) if line.startswith("{")]
    requests = [json.loads(line) for line in lines if '"command"' in line]
    answers = [json.loads(line) for line in lines if '"ok"' in line]
    assert len(requests) == 4 and [sorted(one) for one in answers] == [
        ["changes", "ok", "version"], ["error", "ok", "version"]]
    for request in requests:
        if request["command"] != "stop":
            assert request.pop("version") == 1
            told = weir.command(**({**request, "backend": "con1"} if "backend" in request
                                   else request))
            if request["command"] == "weight":
                assert told == [one.replace("10.0.0.12:8080", "con1")
                                for one in answers[0]["changes"]]
    weir.command("reload")


def test_weirctl_exit_status(weir):
    def status(*arguments):
        return str(run(CONTROL, *arguments).returncode)

    assert names(section(WEIRCTL, "EXIT STATUS")) == ["0", "1", "2"]
    assert status("-i", weir.instance, "reload") == "0"
    assert status("-i", weir.instance, "drain", "web", "nobody") == "1"
    assert status("-s", "/nowhere", "reload") == status("--wrong") == status("nonsense") == "2"


# ---- all ----

def test_helps_name_the_pages():
    for program in (BINARY, CONTROL):
        said = run(program, "--help").stdout
        assert all(page in said for page in ("weir(8)", "weir.conf(5)", "weirctl(8)")), said


@pytest.mark.skipif(not shutil.which("lowdown"), reason="lowdown is missing")
@pytest.mark.parametrize("page", PAGES)
def test_pages(page):
    """Made by the build. Nothing of Markdown is left, and nothing of it was taken for more than
    text."""
    name = os.path.basename(page)[:-len(".md")]
    with open(f"{os.path.dirname(os.path.dirname(BINARY))}/{name}") as file:
        made = file.read()
    sections = [title for level, title in headings(read(page)) if level == 1]
    assert len(re.findall(r"^\.SH\b", made, re.M)) == len(sections)
    title, number = name.rsplit(".", 1)
    assert re.search(rf'^\.TH "{title.upper()}" "{number}" "" "Weir \d[^"]*"', made, re.M)
    prose = re.sub(r"^\.EX$.*?^\.EE$", "", made, flags=re.M | re.S)
    prose = re.sub(r"\\fC.*?\\fR", "", prose)
    assert "**" not in prose and "`" not in prose and "<!--" not in prose
    # An underscore that was taken for emphasis has lost itself.
    for word in re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", re.sub("<!--.*?-->", "", read(page))):
        assert word in made, word


def test_example_of_the_configuration(tmp_path):
    path = tmp_path / "weir.conf"
    path.write_text("\n".join(commands(section(CONF, "EXAMPLE").split("A backend that")[0])) + "\n")
    assert run(BINARY, "-c", str(path), "--check").stdout == f"{path}: right\n"


def test_pages_are_installed(tmp_path):
    done = run("meson", "install", "-C", weir_module.BINARY.rsplit("/", 2)[0], "--no-rebuild",
               "--destdir",
               str(tmp_path))
    assert done.returncode == 0, done.stdout
    found = {os.path.relpath(path, tmp_path) for path in glob.glob(f"{tmp_path}/usr/share/man/*/*")}
    wanted = {"usr/share/man/man5/weir.conf.5", "usr/share/man/man8/weir.8",
              "usr/share/man/man8/weirctl.8"}
    assert found == (wanted if shutil.which("lowdown") else set())
