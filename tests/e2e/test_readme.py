# SPDX-License-Identifier: BSD-3-Clause
"""README stays short, and what it says is so: links, packages, commands, options, quoted messages.
Its configuration starts as it stands there, and its commands work with it."""

import functools
import glob
import os
import re
import shlex
import subprocess

import pytest

import weir as weir_module
from lab import PORT, VIP, Lab
from manual import PAGES, commands, headings, read, section
from netns import PATIENCE
from weir import BINARY, ROOT

README = read("README.md")
OWN = {"weir": BINARY, **{name: f"{ROOT}/scripts/{name}" for name in ("weirctl", "nginx2weir")},
       **{f"scripts/{name}": f"{ROOT}/scripts/{name}" for name in ("demo", "test", "bench")}}

ALL = ("README.md", "lib/README.md", "tests/README.md", "tests/bench/README.md", *PAGES)


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60 * PATIENCE)


def test_size():
    lines = README.split("\n")
    assert len(lines) <= 451                # the last one is empty
    assert [line for line in lines if len(line) > 120] == []


# ---- links ----

def anchors(text):
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in headings(text)}


@pytest.mark.parametrize("page", ALL)
def test_links(page):
    for target in re.findall(r"\]\(([^)]+)\)", read(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        assert os.path.exists(f"{ROOT}/{path}"), target
        assert not anchor or anchor in anchors(read(path)), target


def test_paths():
    """What stands in backquotes and looks like a path of the repository is there."""
    for path in re.findall(r"`((?:app|conf|lib|scripts|tests)/[\w./-]*)", README):
        assert os.path.exists(f"{ROOT}/{path}"), path


# ---- commands ----

def mentioned(page):
    """Command lines that begin with one of Weir's own programs, in blocks and in backquotes."""
    prose = re.sub(r"^ {4}.*$", "", read(page), flags=re.M)
    quoted = re.findall(r"`([^`]+)`", prose.replace("\n", " "))
    for line in commands(read(page)) + quoted:
        for part in re.split(r"\s*(?:&&|;|\|)\s*", line):
            words = part.split()
            if words and words[0] in OWN:
                yield words


@functools.lru_cache
def help_of(*command):
    return run(OWN[command[0]], *command[1:], "--help").stdout


@pytest.mark.parametrize("page", ALL)
def test_options(page):
    """Each option that a page has one give is one of that program or its command, each part of the
    benchmark one of its parts."""
    seen = set()
    for words in mentioned(page):
        options = [word for word in words[1:] if re.match(r"--?[a-z]", word)]
        options += [word for word, before in zip(words[2:], words[1:]) if before == "--only"]
        known = help_of(words[0])
        if words[0] == "weirctl":
            known += "".join(help_of("weirctl", word) for word in words[1:]
                             if re.search(rf"^ +{re.escape(word)} ", known, re.M))
        for option in options:
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", known), (words, option)
        seen.add(words[0])
    assert page != "README.md" or seen == set(OWN)


def test_packages():
    with open(f"{ROOT}/scripts/lib.sh") as file:
        wanted = re.search(r'^BUILD_PACKAGES="([^"]*)"', file.read(), re.M).group(1).split()
    text = re.findall(r"apt-get install ((?:[^\n]*\\\n)*[^\n]*)", README)
    assert len(text) == 1
    listed = [word for word in text[0].replace("\\", "").split() if not word.startswith("-")]
    # What the unit tests and this page's commands use besides.
    used = {"dpdk", "dpdk-dev", "python3", "iproute2", "iputils-ping", "iputils-arping", "ethtool",
            "curl"}
    assert sorted(listed) == sorted(set(wanted) | used)


# Those that a minimal Debian lacks, by their packages.
PROGRAMS = {"arping": "iputils-arping", "curl": "curl", "driverctl": "driverctl",
            "ethtool": "ethtool",
            "git": "git", "ip": "iproute2", "nft": "nftables", "ping": "iputils-ping",
            "tcpdump": "tcpdump"}


def test_programs_are_named():
    """What a command of this page needs is in the list of packages, or named as "package X"."""
    listed = re.search(r"apt-get install ((?:[^\n]*\\\n)*[^\n]*)", README).group(1).split()
    used = {word for line in commands(README) for word in line.split() if word in PROGRAMS}
    assert {"ip", "curl", "ethtool"} <= used
    assert [program for program in sorted(used) if PROGRAMS[program] not in listed
            and f"package {PROGRAMS[program]}" not in README] == []


# ---- messages ----

def literals():
    """The strings in Weir's sources, those that stand one behind the other joined."""
    for folder in ("app", "lib"):
        for path in glob.glob(f"{ROOT}/{folder}/**/*.c", recursive=True):
            with open(path) as file:
                for found in re.findall(r'(?:"(?:[^"\\\n]|\\.)*"\s*)+', file.read()):
                    yield re.sub(r'"\s*"', "", found.strip())[1:-1].replace('\\"', '"')


def is_expansion(message, pieces):
    """Whether the message is what a format gives that has these pieces between its conversions,
    each of one word. It may be cut off within a piece, or behind a conversion."""
    for last, piece in enumerate(pieces):
        before = r"\S+".join(map(re.escape, [*pieces[:last], ""]))
        for length in range(len(piece), 7, -1):
            if " " in piece[:length] and re.fullmatch(
                    before + re.escape(piece[:length]) + (r"\S*" if length == len(piece) else ""),
                    message):
                return True
    return False


def test_messages():
    """What Troubleshooting quotes from the log is what the log says."""
    quoted = re.findall(r"^\*\*`([^`]+)`\*\*", section(README, "Troubleshooting"), re.M)
    made_of_parts = [one for one in quoted if one.startswith("down (")]
    assert len(quoted) - len(made_of_parts) >= 6
    formats = [re.split(r"%[-+.*0-9]*[a-z]+", text) for text in set(literals()) if " " in text]
    for message in set(quoted) - set(made_of_parts):
        assert any(is_expansion(message, pieces) for pieces in formats), message


# ---- the configuration at the top ----

def example():
    block = next(found for found in re.findall(r"(?:^ {4}.*\n)+", README, re.M)
                 if "services = {" in found)
    return re.sub(r"^ {4}", "", block, flags=re.M)


def test_example_is_right(tmp_path):
    path = tmp_path / "weir.conf"
    path.write_text(example())
    assert run(BINARY, "-c", str(path), "--check").stdout == f"{path}: right\n"


def example_in(lab):
    """The lab has README's addresses; only the device is another one, and an instance keeps it
    apart."""
    text = example().replace("0000:03:00.0", PORT) + f'instance = "{lab.name}";\n'
    if not weir_module.hugepages_available():
        text = text.replace("port = {", "port = { hugepages = false;")
    return text


@pytest.fixture(scope="module")
def deployed():
    with Lab(routed=True) as lab:
        running = weir_module.Weir(lab, example_in(lab)).start()
        yield running
        if running.running():
            assert running.stop() == 0


def here(line, weir):
    """A command line of README with the programs, the instance and the namespace of this weir."""
    line = re.sub(r"^weirctl ", f"{OWN['weirctl']} -i {weir.instance} ", line)
    line = line.replace("ip netns exec weir ", f"ip netns exec {weir.prefix} ")
    return shlex.split(re.sub(r"-f weir$", f"-f {weir.prefix}", line))


def test_first_answers(deployed):
    """Step 5: from another machine, and the counters."""
    text = section(README, "First deployment")
    line = next(one for one in commands(text) if one.startswith("curl"))
    assert deployed.lab.client.run(*shlex.split(line)).stdout.startswith("con")
    asked = [one for one in commands(text) if "dpdk-telemetry.py" in one]
    assert len(asked) == 2
    for line in asked:
        question, program = line.split("|")
        done = subprocess.run(here(program.strip(), deployed), input=question.split()[1] + "\n",
                              text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60 * PATIENCE)
        assert done.returncode == 0, done.stdout
        assert ("10.0.0.12:8081" if "/backends" in question else '"backends_up": 4') in done.stdout


def test_operating(deployed):
    """Each command of the chapter, one after the other, says nothing bad."""
    lines = commands(section(README, "Operating"))
    assert sum(line.startswith("weirctl") for line in lines) == 4
    for line in lines:
        done = run(*here(line, deployed))
        assert done.returncode == 0, f"{line}: {done.stdout}"
        if " drain " in line:
            assert deployed.backends()["10.0.0.12:8080"]["state"] == "drain"
        if " weight " in line:
            assert deployed.backends()["10.0.0.11:8080"]["weight"] == 5
    assert {one["weight"] for one in deployed.backends().values()} == {1}


def test_upgrade(deployed):
    lines = commands(section(README, "Restart and upgrade"))
    assert "weirctl upgrade" in lines and "weirctl stop --forget" in lines
    deployed.upgrade()


def test_announcement(deployed):
    """Beside nginx, step 3: a neighbour that holds another MAC address for the VIP learns the right
    one."""
    client = deployed.lab.client
    right = client.run("ip", "neigh", "show", VIP).stdout.split("lladdr ")[1].split()[0]
    client.run(*f"ip neigh replace {VIP} lladdr 02:00:00:00:00:99 dev eth0 nud reachable".split())
    line = next(one for one in commands(section(README, "Try it beside nginx, then move"))
                if "weir0" in one)
    done = run(*here(line, deployed))
    assert f"lladdr {right} " in client.run("ip", "neigh", "show", VIP).stdout, done.stdout


def test_two_legs():
    """The second drawing of Your network: the servers know their own network and nothing else."""
    text = section(README, "Your network")
    addresses = re.search(r"(address = \[.*?\];)", text).group(1)
    snat = re.search(r"`(snat = .*?)`", text).group(1)
    with Lab() as lab:
        for index, host in enumerate(lab.hosts):
            host.ip("address flush dev eth0", f"address add 10.0.0.1{index + 1}/24 dev eth0")
            host.popen("/usr/bin/python3", "-m", "http.server", "8090", "--bind",
                       f"10.0.0.1{index + 1}",
                       "--directory", lab.files, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        config = re.sub(r'address = "[^"]*";', addresses, example_in(lab)) + snat
        config = re.sub(r', "[^"]*:8081"', "", config).replace(":8080", ":8090")
        weir = weir_module.Weir(lab, config).start()
        for _ in range(4):
            lab.client.run("curl", "-sSf", "--max-time", 5 * PATIENCE, f"http://{VIP}/")
        assert sum(one["connections"] for one in weir.backends().values()) == 4
        assert {one["snat"] for one in weir.telemetry.query("/weir/snat")} == {"10.0.0.5"}
        assert weir.stop() == 0


def test_going_back():
    """An interface whose weir was killed hears again: by weir --forget, and by README's commands
    for who hasn't the program any more."""
    lines = [one for one in commands(section(README, "Going back")) if "eth1" in one]
    assert len(lines) == 3
    with Lab(routed=True) as lab:
        weir = weir_module.Weir(lab, example_in(lab))

        def hears():
            return lab.client.run("ping", "-c", 1, "-W", 1, VIP, check=False).returncode == 0

        def forget_by_hand():
            for line in lines:
                lab.lb.run(*line.replace("eth1", PORT).split())

        for give_back in (weir.forget, forget_by_hand):
            weir.start()
            weir.kill()
            lab.lb.ip(f"address add {VIP}/24 dev {PORT}")
            assert not hears(), "it isn't mute, so this test shows nothing"
            give_back()
            assert hears()
            lab.lb.ip(f"address del {VIP}/24 dev {PORT}")
        weir.forget()                   # what the namespace has
