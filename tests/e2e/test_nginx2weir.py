# SPDX-License-Identifier: BSD-3-Clause
"""scripts/nginx2weir on configurations that nginx itself accepts (tests/nginx). What it makes of
each stands here in short: the services' text without comments and blanks."""

import os
import re
import shutil
import subprocess

import pytest

import weir as weir_module
from netns import Namespace, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = f"{ROOT}/scripts/nginx2weir"
CONFS = f"{ROOT}/tests/nginx"

# file: (services, what the notes must say)
EXPECTED = {
    "article.conf": ("""
        backend = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.11:8081", "10.0.0.12:8081" ); };
        """, []),
    "weights.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin";
            passive = { fails = 3; window_ms = 30000; retry_ms = 30000; }; backends = (
            { address = "10.0.0.11:8080"; weight = 5; },
            { address = "10.0.0.12:8080"; weight = 2; },
            { address = "10.0.0.13:8080"; max_conns = 200; },
            { address = "10.0.0.14:8080"; state = "disabled"; },
            { address = "10.0.0.15:8080"; backup = true; } ); };
        """, ["6: 10.0.0.12:8080 max_fails=3", "20: proxy_set_header X-Real-IP $remote_addr",
              "21: proxy_connect_timeout 2s", "22: proxy_next_upstream error timeout"]),
    "ip-hash.conf": ("""
        sticky = { listen = ":80"; scheduler = "source"; backends = (
            { address = "10.0.0.11:80"; weight = 2; }, "10.0.0.12:8080" ); };
        by-client = { listen = ":8000"; scheduler = "source"; backends = (
            "10.0.0.21:9000", "10.0.0.22:9000" ); };
        by_uri = { listen = ":8001"; scheduler = "maglev"; backends = (
            "10.0.0.31:80", "10.0.0.32:80" ); };
        """, ["14: hash $request_uri became maglev"]),
    "one-line.conf": ("""
        a = { listen = ":81"; scheduler = "least_conn"; backends = (
            { address = "10.0.0.11:8080"; weight = 3; }, "10.0.0.12:8080" ); };
        """, ["7: add_header X-Quoted"]),
    "stream.conf": ("""
        db = { listen = ":5432"; scheduler = "round_robin";
            passive = { fails = 2; window_ms = 10000; retry_ms = 10000; }; backends = (
            "10.0.0.41:5432", { address = "10.0.0.42:5432"; backup = true; } ); };
        tls = { listen = ":443"; scheduler = "source"; backends = (
            "10.0.0.43:8443", "10.0.0.44:8443" ); };
        dns = { listen = ":53"; scheduler = "round_robin"; backends = (
            "10.0.0.45:53", "10.0.0.46:53" ); };
        service_10_0_0_47 = { listen = [ ":7000", ":7001", ":7002" ]; scheduler = "round_robin";
            backends = ( "10.0.0.47:7000" ); };
        service_10_0_0_48 = { listen = ":6000"; scheduler = "round_robin"; backends = (
            "10.0.0.48:6000" ); };
        """, ["17: listen 53 udp", "19: proxy_protocol on", "15: proxy_timeout 1h"]),
    "tls.conf": ("""
        plain = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080" ); };
        secure_tls = { listen = ":8443"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8443", "10.0.0.12:8443" ); };
        """, ["10: listen 443 ssl http2", "18: listen 8443 ssl", "27: return 301",
              "30: listen 8081", "TLS passes through to the servers"]),
    "dual-stack.conf": ("""
        both = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080" ); };
        both_v6 = { listen = ":80"; scheduler = "round_robin"; backends = (
            "[2001:db8:1::11]:8080", { address = "[2001:db8:1::12]:8080"; weight = 2; } ); };
        four = { listen = ":81"; scheduler = "round_robin"; backends = ( "10.0.0.13:8080" ); };
        service_10_0_0_14 = { listen = ":82"; scheduler = "round_robin"; backends = (
            "10.0.0.14:8080" ); };
        service_2001_db8_1__15 = { listen = "[2001:db8:2::1]:83"; scheduler = "round_robin";
            backends = ( "[2001:db8:1::15]:8080" ); };
        """, ["9: server [2001:db8:1::13]:8080", "12: listen [::]:82 ipv6only=off"]),
    "virtual-hosts.conf": ("""
        two = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.21:8080", "10.0.0.22:8080" ); };
        one = { listen = ":8080"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080" ); };
        """, ["5: server one.example.org shares its address", "9: return 404"]),
    "locations.conf": ("""
        web = { listen = ":80"; scheduler = "least_conn"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080" ); };
        """, ["25: location /api/: proxy_pass http://api/v1/", "28: proxy_pass http://$host",
              "26: fastcgi_pass 10.0.0.30:9000", "22: if ($request_method = POST)",
              "17: deny all", "21: proxy_cache one", "6: gzip on", "27: expires 1d"]),
    "odd.conf": ("""
        service_3scale_api = { listen = "203.0.113.7:80"; scheduler = "round_robin"; backends = (
            { address = "10.0.0.11:8080"; weight = 256; },
            { address = "10.0.0.12:8080"; weight = 128; }, "10.0.0.13:8080" ); };
        service_3scale_api_2 = { listen = [ ":82", "192.0.2.10:80" ]; scheduler = "round_robin";
            backends = ( "10.0.0.21:8080" ); };
        spare = { listen = ":84"; scheduler = "round_robin"; backends = ( "10.0.0.22:8080" ); };
        """, ["9: server 127.0.0.1:8080", "10: server unix:/run/app.sock",
              "11: server 203.0.113.7:8080", "15: server 10.0.0.22:8080 backup",
              "14: server 127.0.0.1:3000", "18: listen 127.0.0.1:81", "19: listen unix:odd.sock",
              "8: server 10.0.0.13:8080", "Weights above 256"]),
    "addresses.conf": ("""
        service_10_0_0_11 = { listen = [ "192.0.2.80:80", "192.0.2.10:8080" ];
            scheduler = "round_robin"; backends = ( "10.0.0.11:8080" ); };
        service_10_0_0_12 = { listen = [ "192.0.2.10:80", "198.18.0.10:80" ];
            scheduler = "round_robin"; backends = ( "10.0.0.12:8080" ); };
        service_10_0_0_13 = { listen = "192.0.2.81:80"; scheduler = "round_robin"; backends = (
            "10.0.0.13:80" ); };
        service_true = { listen = ":84"; scheduler = "round_robin"; backends = (
            "198.51.100.0:80", "203.0.113.9:80" ); };
        """, []),
    "grpc.conf": ("""
        calls = { listen = [ ":50051", ":50052" ]; scheduler = "round_robin"; backends = (
            "10.0.0.11:50051", "10.0.0.12:50051" ); };
        """, []),
    "includes/nginx.conf": ("""
        shop = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:3000", "10.0.0.12:3000" ); };
        """, ["proxy_params:1: proxy_set_header Host $http_host"]),
}


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    """Runs `nginx -t` on a file of tests/nginx: in a namespace, for it binds the addresses."""
    directory = tmp_path_factory.mktemp("nginx")
    shutil.copytree(CONFS, directory, dirs_exist_ok=True)
    for place in (directory, directory / "includes"):
        run("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-subj", "/CN=test", "-days", "2",
            "-keyout", place / "key", "-out", place / "certificate")
    namespace = Namespace(f"weir-nginx2weir-{os.getpid()}")
    namespace.create()
    namespace.sysctl(ipv4__ip_nonlocal_bind=1, ipv6__ip_nonlocal_bind=1)

    def test(name):
        pid = [] if "includes" in name else ["-g", f"pid {directory}/pid;"]
        return namespace.run("nginx", "-t", "-p", directory, "-c", directory / name,
                             "-e", "stderr", *pid, check=False)

    yield test
    namespace.delete()


def convert(path, *options, check=True):
    done = subprocess.run([SCRIPT, *options, path], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


def check(text, tmp_path):
    path = tmp_path / "weir.conf"
    path.write_text(text)
    return run(weir_module.BINARY, "-c", path, "--check", check=False)


def services(text):
    """The text within `services = { ... };` without comments, blanks as one."""
    inner = re.search(r"^services = \{\n(.*)^\};$", text, re.DOTALL | re.MULTILINE).group(1)
    return re.sub(r"\s+", " ", re.sub(r"#[^\n]*", "", inner)).strip()


def test_every_configuration_has_its_expectation():
    found = {name for name in os.listdir(CONFS) if name.endswith(".conf")}
    assert found | {"includes/nginx.conf"} == set(EXPECTED) and len(EXPECTED) >= 10


@pytest.mark.parametrize("name", EXPECTED)
def test_configuration(name, nginx, tmp_path):
    accepted = nginx(name)
    assert accepted.returncode == 0, accepted.stderr
    text = convert(f"{CONFS}/{name}").stdout
    wanted, notes = EXPECTED[name]
    assert services(text) == re.sub(r"\s+", " ", wanted).strip()
    head = text[:text.index("\nport = {")]
    assert "Connections are balanced, not requests" in head
    assert "the servers see the port's address as the client's" in re.sub(r"\n#\s+", " ", head)
    for note in notes:
        assert note in head
    checked = check(text, tmp_path)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("servers,wanted", [
    (("max_fails=0",), "fails = 0; window_ms = 10000; retry_ms = 10000;"),
    (("fail_timeout=1m30s",), "fails = 1; window_ms = 90000; retry_ms = 90000;"),
    (("max_fails=5000 fail_timeout=2h", ""),
     "fails = 1000; window_ms = 3600000; retry_ms = 3600000;"),
    (("max_fails=1", "max_fails=4 fail_timeout=500ms", "max_fails=4 fail_timeout=500ms"),
     "fails = 4; window_ms = 500; retry_ms = 500;"),
    (("max_fails=3 fail_timeout=30s", "", "", ""),
     "fails = 3; window_ms = 30000; retry_ms = 30000;"),
    (("", "weight=2"), None),
])
def test_passive_health(servers, wanted, tmp_path):
    """max_fails and fail_timeout, for the service as most of those servers have them that state
    any."""
    whole = tmp_path / "site"
    lines = "".join(f"server 10.0.0.{number + 1}:80 {line};" for number, line in enumerate(servers))
    whole.write_text(f"upstream a {{ {lines} }} server {{ listen 80; location / "
                     "{ proxy_pass http://a; } }\n")
    text = convert(str(whole)).stdout
    assert (f"passive   = {{ {wanted} }};" in text) if wanted else "passive" not in text
    said = re.sub(r"\n#\s+", " ", text)
    assert ("the most frequent among the servers that state any" in said) == (wanted is not None)
    assert check(text, tmp_path).returncode == 0


def test_nothing_is_noted_of_an_unused_upstream():
    assert "10.0.0.99" not in convert(f"{CONFS}/odd.conf").stdout


def test_a_part_of_a_configuration(tmp_path):
    """As in sites-enabled: no http around it, and includes relative to nginx's own directory."""
    part = f"{CONFS}/includes/conf.d/20-shop.conf"
    assert "-p DIRECTORY" in convert(part, check=False).stderr
    whole = tmp_path / "site"
    whole.write_text("upstream a { server 10.0.0.1:80; }\n"
                     "server { location / { include proxy_params; proxy_pass http://a; } }\n")
    text = convert(str(whole), "-p", f"{CONFS}/includes").stdout
    assert services(text).startswith('a = { listen = ":80";')
    assert check(text, tmp_path).returncode == 0


def test_names_are_carried_over(tmp_path):
    """Weir asks for them itself, for the addresses of the listen address's family."""
    path = tmp_path / "nginx.conf"
    path.write_text("http { upstream a { server host1:8080 weight=2; server app.example.org; "
                    "server 10.0.0.1:8080; server host1:8080; server localhost:81; server -x:1; }"
                    "upstream b { server host3:8080; }"
                    "server { listen 80; listen [::]:80; location / { proxy_pass http://a; } }"
                    "server { listen [::]:81; location / { proxy_pass http://b; } } }")
    text = convert(str(path)).stdout
    assert services(text) == (
        'a = { listen = ":80"; scheduler = "round_robin"; backends = ( '
        '{ address = "host1:8080"; weight = 3; }, "app.example.org:80", "10.0.0.1:8080" ); }; '
        'a_v6 = { listen = "[2001:db8::10]:80"; scheduler = "round_robin"; backends = ( '
        '{ address = "host1:8080"; weight = 3; }, "app.example.org:80" ); }; '
        'b = { listen = "[2001:db8::10]:81"; scheduler = "round_robin"; backends = ( '
        '"host3:8080" ); };')
    assert "server host1:8080 weight=2" in text
    assert "DNS doesn't have" in text and "server -x:1" in text and "server localhost:81" in text
    assert check(text, tmp_path).returncode == 0


@pytest.mark.parametrize("text,message", [
    ("http {", "ends within"),
    ("http { server { listen 80 } }", '"listen" isn\'t ended by ;'),
    ("http { } }", "unexpected }"),
    ("http { ; }", "unexpected ;"),
    ('http { log_format a "b; }', "quote that isn't closed"),
    ("include nginx.conf;", "includes more than"),
    ("include none;", "isn't there"),
    ("http { server { listen 80; return 404; } }", "nothing that Weir could balance"),
    ("events { }", "nothing that Weir could balance"),
    ("", "nothing that Weir could balance"),
])
def test_refused(text, message, tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    done = convert(str(path), check=False)
    assert done.returncode == 1 and message in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there(tmp_path):
    done = convert(str(tmp_path / "none"), check=False)
    assert done.returncode == 1 and "No such file" in done.stderr
