# SPDX-License-Identifier: BSD-3-Clause
"""scripts/nginx2weir on configurations that nginx itself accepts (tests/nginx), and on such as are
only met elsewhere (tests/nginx/parts: templates, files of a part, other versions). What it makes of
each stands here in short: the services' text without comments and blanks. The cases of the
catalogue are M1 to M11."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import lab as lab_module
import weir as weir_module
from netns import PATIENCE, Namespace, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = f"{ROOT}/scripts/nginx2weir"
CONFS = f"{ROOT}/tests/nginx"

# file: (services, what the notes must say, services that are commented out); services None = there
# is nothing to balance
EXPECTED = {
    "article.conf": ("""
        backend = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.11:8081", "10.0.0.12:8081" ); };
        """, []),
    "weights.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin"; connect_timeout_ms = 2000;
            passive = { fails = 3; window_ms = 30000; retry_ms = 30000; }; backends = (
            { address = "10.0.0.11:8080"; weight = 5; },
            { address = "10.0.0.12:8080"; weight = 2; },
            { address = "10.0.0.13:8080"; max_conns = 200; },
            { address = "10.0.0.14:8080"; state = "disabled"; },
            { address = "10.0.0.15:8080"; backup = true; } ); };
        """, ["6: 10.0.0.12:8080 max_fails=3", "20: proxy_set_header X-Real-IP $remote_addr",
              "22: proxy_next_upstream error timeout"]),
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
            timeouts = { established_s = 3600; }; on_idle = "reset";
            passive = { fails = 2; window_ms = 10000; retry_ms = 10000; }; backends = (
            "10.0.0.41:5432", { address = "10.0.0.42:5432"; backup = true; } ); };
        tls = { listen = ":443"; scheduler = "source"; backends = (
            "10.0.0.43:8443", "10.0.0.44:8443" ); };
        dns = { listen = ":53"; scheduler = "round_robin"; backends = (
            "10.0.0.45:53", "10.0.0.46:53" ); };
        service_10_0_0_47 = { listen = [ ":7000", ":7001", ":7002" ]; scheduler = "round_robin";
            backends = ( "10.0.0.47:7000" ); };
        """, ["17: listen 53 udp", "19: proxy_protocol on",
              "19: server without a name, listen 6000: one side alone speaks the PROXY protocol"]),
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
        two = { listen = "192.0.2.10:80"; scheduler = "round_robin"; backends = (
            "10.0.0.21:8080", "10.0.0.22:8080" ); };
        one = { listen = ":8080"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080" ); };
        """, ["5: server one.example.org shares its address with that of virtual-hosts.conf:6: its "
              "clients get two", "9: server none.example.org shares its address with that of "
              "virtual-hosts.conf:6: its clients get two (nginx answers itself)", "9: return 404"],
        ["one_2"]),
    "locations.conf": ("""
        web = { listen = ":80"; scheduler = "least_conn"; allow = "10.0.0.0/8"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080" ); };
        """, ["25: location /api/: proxy_pass http://api/v1/",
              "28: location /auto/: proxy_pass http://$host",
              r"26: location ~ \.php$: fastcgi_pass 10.0.0.30:9000",
              "22: if ($request_method = POST)", "27: location /static/: alias /srv/static/",
              "17: deny all", "21: proxy_cache one", "6: gzip on",
              "27: location /static/: expires 1d"]),
    "odd.conf": ("""
        service_3scale_api = { listen = "203.0.113.7:80"; scheduler = "round_robin"; backends = (
            { address = "10.0.0.11:8080"; weight = 256; },
            { address = "10.0.0.12:8080"; weight = 128; }, "10.0.0.13:8080" ); };
        service_3scale_api_2 = { listen = ":82"; scheduler = "round_robin"; backends = (
            "10.0.0.21:8080" ); };
        spare = { listen = ":84"; scheduler = "round_robin"; backends = ( "10.0.0.22:8080" ); };
        """, ["9: server 127.0.0.1:8080", "10: server unix:/run/app.sock",
              "11: server 203.0.113.7:8080", "15: server 10.0.0.22:8080 backup",
              "14: server 127.0.0.1:3000", "18: listen 127.0.0.1:81", "19: listen unix:odd.sock",
              "8: server 10.0.0.13:8080", "Weights above 256",
              "20: server without a name, listen 83: none of its servers can be carried over",
              "22: location /b: proxy_pass http://3scale_api"], ["service_3scale_api_3"]),
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
        """, ["proxy_params:1: proxy_set_header Host $http_host", "6: include none-such/*.conf"]),

    # M1: all clients of an address get what its default server leads to, or nothing.
    "m1-default-ends-tls.conf": (None, [
        "8: server shop.example.org, listen 443 ssl: nginx ends TLS there",
        "9: server office.example.org, listen 443 ssl: the default server there is that of "
        "m1-default-ends-tls.conf:8",
        "13: location /api: proxy_pass https://$shop", "13: server shop.example.org",
        "15: server Shop.example.org."]),
    "m1-default-by-variable.conf": (None, [
        "7: location /: proxy_pass http://$shard",
        "8: server green.example.org, listen 80: the default server there is that of "
        "m1-default-by-variable.conf:7, and where to depends on the request"], ["green"]),
    "m1-two-tls-sites.conf": ("""
        left_tls = { listen = "192.0.2.10:443"; scheduler = "round_robin"; backends = (
            "10.0.0.11:443" ); };
        """, ["9: server right.example.org shares its address with that of "
              "m1-two-tls-sites.conf:8: its clients get left",
              "10: server left.example.org, listen 80: nginx answers itself"], ["right_tls"]),
    "m1-catch-all.conf": ("""
        site = { listen = ":82"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8080", "10.0.0.12:8080" ); };
        """, ["5: return 444", "6: server www.example.org, listen 80: the default server there is "
              "that of m1-catch-all.conf:5, and nginx answers itself",
              "7: rewrite ^(.*)$ https://www.example.org$1 permanent",
              "8: server www.example.org, listen 81"], ["site_2", "site_3"]),
    "m1-one-address.conf": ("""
        site = { listen = [ "198.51.100.10:80", "192.0.2.80:8080" ]; scheduler = "round_robin";
            backends = ( "10.0.0.11:8080" ); };
        """, ["8: server without a name, listen 192.0.2.80:80: nginx answers itself",
              "8: server: nothing is passed on"]),

    # M2: one location isn't the whole service.
    "m2-only-php.conf": ("""
        php = { listen = ":83"; scheduler = "round_robin"; backends = ( "10.0.0.11:8000" ); };
        """, [r"4: location ~ \.php$: proxy_pass http://php", "5: fastcgi_pass 10.0.0.12:9000",
              "5: location /new/: proxy_pass http://php", "6: return 302 /app/",
              "6: location /app/: proxy_pass http://php/ takes /app/ off the path",
              "7: if (-f $request_filename)"], ["php_2", "php_3", "php_4"]),
    "m2-some-paths.conf": (None, [
        "6: try_files $uri =404", "7: location /api: proxy_pass http://app",
        "9: location = /: proxy_pass http://app", "9: location /x: proxy_pass http://10.0.0.12"],
        ["app"]),
    "m2-fallback.conf": ("""
        app = { listen = [ ":80", ":81" ]; scheduler = "round_robin"; backends = (
            "10.0.0.11:3000", "10.0.0.12:3000" ); };
        """, ["8: try_files $uri $uri/index.html @app", "11: try_files $uri @app",
              "Files that nginx serves where they exist"]),

    # M3: a path that nginx changes.
    "m3-prefix.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin"; backends = ( "10.0.0.11:8000" ); };
        """, ["8: location /api/: proxy_pass http://app/ takes /api/ off the path",
              "10: location /v1/: proxy_pass http://app/v2/ changes the path",
              "13: location /: proxy_pass http://app/base/ changes the path"], ["app_2"]),

    # M7: who may.
    "m7-access.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin"; allow = "10.0.0.0/8"; backends = (
            "10.0.0.11:8000" ); };
        app_2 = { listen = [ ":81", ":87", ":89" ]; scheduler = "round_robin";
            deny = "203.0.113.7/32"; backends = ( "10.0.0.11:8000" ); };
        app_3 = { listen = ":82"; scheduler = "round_robin";
            allow = [ "10.1.2.0/24", "10.0.0.0/8", "192.0.2.1/32" ]; deny = "10.1.0.0/16";
            backends = ( "10.0.0.11:8000" ); };
        app_4 = { listen = ":83"; scheduler = "round_robin";
            allow = [ "198.51.100.5/32", "0.0.0.0/0" ]; deny = "198.51.100.0/24"; backends = (
            "10.0.0.11:8000" ); };
        both = { listen = ":85"; scheduler = "round_robin"; allow = "10.0.0.0/8"; backends = (
            "10.0.0.11:8000" ); };
        both_v6 = { listen = ":85"; scheduler = "round_robin"; allow = "2001:db8::/32"; backends = (
            "[2001:db8:1::11]:8000" ); };
        app_5 = { listen = ":91"; scheduler = "round_robin"; backends = ( "10.0.0.11:8000" ); };
        """, ["24: server without a name: nobody may connect", "30: auth_basic who",
              "35: location /admin/: allow 10.0.0.0/8", r"40: location ~ /\.ht: deny all",
              "44: set_real_ip_from 10.0.0.0/8", "8: deny all", "gets no answer at all"],
        ["app_6", "app_7", "app_8"]),
    "m7-stream.conf": ("""
        db = { listen = ":5432"; scheduler = "round_robin"; allow = "10.0.0.0/8"; backends = (
            "10.0.0.41:5432" ); };
        db_2 = { listen = ":5433"; scheduler = "round_robin"; deny = "203.0.113.0/24";
            timeouts = { established_s = 1800; }; on_idle = "reset"; backends = (
            "10.0.0.41:5432" ); };
        db_3 = { listen = ":5435"; scheduler = "round_robin"; deny = "203.0.113.0/24"; backends = (
            "10.0.0.41:5432" ); };
        """, ["8: server without a name, listen 5434 proxy_protocol: one side alone",
              "10: proxy_pass $upstream_addr", "11: return weir"]),

    # M11: what only looks like a variable, and what else nginx means.
    "m11-constant.conf": ("""
        App = { listen = [ ":80", ":82" ]; scheduler = "round_robin"; backends = (
            "10.0.0.11:8000" ); };
        service_10_0_0_12 = { listen = ":81"; scheduler = "round_robin"; backends = (
            "10.0.0.12:8000" ); };
        """, ["9: location /: proxy_pass http://$a",
              "10: location /: proxy_pass http://app/x$request_uri changes the path"], ["App_2"]),
    "m11-passive.conf": ("""
        one_off = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:80", "10.0.0.12:80", "10.0.0.13:80" ); };
        all_off = { listen = ":81"; scheduler = "round_robin"; passive = { fails = 0; };
            backends = ( "10.0.0.21:80", "10.0.0.22:80" ); };
        some = { listen = ":82"; scheduler = "round_robin";
            passive = { fails = 4; window_ms = 20000; retry_ms = 20000; }; backends = (
            "10.0.0.31:80", "10.0.0.32:80" ); };
        """, ["3: 10.0.0.11:80 max_fails=0"]),
    "m11-tls-everywhere.conf": ("""
        app_tls = { listen = ":444"; scheduler = "round_robin"; backends = ( "10.0.0.11:80" ); };
        app = { listen = ":445"; scheduler = "round_robin"; backends = ( "10.0.0.11:80" ); };
        """, ["7: server without a name, listen 443: nginx ends TLS there",
              "10: ssl_verify_client on"]),
}

# The same of files that this nginx doesn't take. M4 and M5: names of another kind, and without a
# port. M6: what nginx would read otherwise. M8 and M9: what Weir has, too. M10: a missing include.
PARTS = {
    "m4-srv.conf": (None, ["2: server svc.example.org service=http resolve", "SRV records"]),
    "m5-stream-name.conf": (None, ["1: proxy_pass database", "Names without a port"]),
    "m5-other-file.conf": (None, ["1: proxy_pass http://jobs", "Names without a port"]),
    "m6-mail.conf": ("""
        service_10_0_0_11 = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8000" ); };
        """, ["2: mail, listen 192.0.2.25:25"]),
    "m6-beside.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin"; backends = ( "10.0.0.11:80" ); };
        """, ["2: upstream app", "3: server"]),
    "m6-no-match.conf": ("""
        service_10_0_0_11 = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8000" ); };
        """, ["2: include /no/such/directory/*.conf", "4: proxy_pass http://jobs"]),
    "m8-resolver.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin"; backends = (
            { address = "app.example.org:8000"; resolve_ms = 5000; }, "10.0.0.11:8000" ); };
        plain = { listen = ":81"; scheduler = "round_robin"; backends = (
            "plain.example.org:8000" ); };
        """, ['resolvers = [ "192.0.2.53", "[2001:db8::53]:5353" ];']),
    "m9-health-check.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin"; connect_tries = 2;
            health = { type = "http"; path = "/hz"; status = "200-299"; interval_ms = 2000;
            fall = 2; rise = 3; port = 9000; }; backends = (
            { address = "10.0.0.11:8000"; slow_start_ms = 30000; },
            { address = "10.0.0.12:8000"; state = "drain"; }, "10.0.0.13:8000" ); };
        app_2 = { listen = ":81"; scheduler = "round_robin"; connect_tries = 1;
            health = { type = "http"; path = "/"; }; backends = (
            { address = "10.0.0.11:8000"; slow_start_ms = 30000; },
            { address = "10.0.0.12:8000"; state = "drain"; }, "10.0.0.13:8000" ); };
        """, ["7: server 10.0.0.13:8000 route=c", "10: match body"]),
    "m10-no-types.conf": ("""
        service_10_0_0_11 = { listen = ":80"; scheduler = "round_robin"; backends = (
            "10.0.0.11:8000" ); };
        """, ["2: include mime.types", "3: include proxy_params",
              "4: include snippets/only-us.conf",
              "4: server without a name, listen 81: what it includes isn't there"],
        ["service_10_0_0_12"]),
    "m11-upstreams.conf": (None, ["upstreams alone"]),
    "m11-locations.conf": (None, ["locations alone"]),
    "m11-ansible.conf": (None, ["m11-ansible.conf:1: {% is of a template"]),
    "m11-envsubst.conf": (None, ["2: listen ${PORT}", "template"]),
    "m11-marked.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin"; backends = ( "10.0.0.11:8000" ); };
        """, ["1: byte order mark"]),
    "m11-long-time.conf": ("""
        app = { listen = ":80"; scheduler = "round_robin"; backends = ( "10.0.0.11:80" ); };
        """, ["1: server 10.0.0.11:80 fail_timeout=1111"]),
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

    def test(name, option="-t"):
        pid = [] if "includes" in name else ["-g", f"pid {directory}/pid;"]
        return namespace.run("nginx", option, "-p", directory, "-c", directory / name,
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
    assert set(os.listdir(f"{CONFS}/parts")) == set(PARTS)


def commented(text):
    """Names of the services that stand there commented out."""
    return re.findall(r"^  # (\w+) = \{$", text, re.MULTILINE)


def judge(path, expected, tmp_path):
    """What is made of a file is as expected, and right."""
    wanted, notes, left_out = (*expected, [])[:3]
    done = convert(path, check=False)
    assert done.returncode == (wanted is None) and "Traceback" not in done.stderr
    if wanted is None:
        assert done.stdout == ""
        head, text = done.stderr, done.stderr
    else:
        text = done.stdout
        assert services(text) == re.sub(r"\s+", " ", wanted).strip()
        head = text[:text.index("\nservices = {")]
        assert "Connections are balanced, not requests" in head
        assert "see the port's address as the client's" in re.sub(r"\n#\s+", " ", head)
        checked = check(text, tmp_path)
        assert checked.returncode == 0, checked.stderr
    for note in notes:
        assert note in re.sub(r"\n[# ]   ?(?=\S)", " ", head), note
    assert commented(text) == left_out
    return text


@pytest.mark.parametrize("name", EXPECTED)
def test_configuration(name, nginx, tmp_path):
    accepted = nginx(name)
    assert accepted.returncode == 0, accepted.stderr
    judge(f"{CONFS}/{name}", EXPECTED[name], tmp_path)


@pytest.mark.parametrize("name", PARTS)
def test_part(name, tmp_path):
    judge(f"{CONFS}/parts/{name}", PARTS[name], tmp_path)


def test_m1_what_is_commented_out_is_right_on_an_address_of_its_own(tmp_path):
    """M1: it needs nothing but its address, and no # in front."""
    text = convert(f"{CONFS}/m1-two-tls-sites.conf").stdout
    head, block = text.split("  # right_tls = {")
    head = head.replace('"192.0.2.10/24"', '[ "192.0.2.10/24", "192.0.2.11/32" ]')
    text = head + "right_tls = {" + block.replace("\n  # ", "\n").replace("ADDRESS", "192.0.2.11")
    assert "right_tls = {" in services(text)
    checked = check(text, tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_m6_what_nginx_prints(nginx, tmp_path):
    """M6: the output of nginx -T says the same as the files, wherever it is read."""
    printed = tmp_path / "all"
    printed.write_text(nginx("includes/nginx.conf", "-T").stdout)
    assert "# configuration file " in printed.read_text()
    text = convert(str(printed)).stdout
    assert services(text) == services(convert(f"{CONFS}/includes/nginx.conf").stdout)
    assert "proxy_params:1: proxy_set_header Host $http_host" in text
    assert "none-such" in text and "include mime.types" not in text


def test_m11_a_long_list_of_rules_and_servers_takes_no_time(tmp_path):
    """M11: nothing takes longer by far than the file is long."""
    path = tmp_path / "nginx.conf"
    path.write_text("http {" + "".join(
        f"upstream u{n} {{ server 10.0.{n}.1:80 fail_timeout={'1' * 4000}x; }}"
        f"server {{ listen {n + 1}; server_name {'a' * 4000}; location / "
        f"{{ proxy_pass http://u{n}; }} }}" for n in range(200)) + "}")
    started = time.monotonic()
    assert services(convert(str(path)).stdout).count("listen = ") == 200
    assert time.monotonic() - started < 30 * PATIENCE


def test_m11_from_a_pipe():
    """M11: there is no second look at what is read."""
    with open(f"{CONFS}/article.conf") as file:
        done = subprocess.run([SCRIPT, "/dev/stdin"], input=file.read(), capture_output=True,
                              text=True)
    assert services(done.stdout).startswith('backend = { listen = ":80";'), done.stderr


@pytest.mark.parametrize("servers,wanted", [
    (("max_fails=0",), "fails = 0;"),
    (("max_fails=0", ""), None),
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
    assert (f"passive   = {{ {wanted} }};" in text) if wanted else \
        "passive" not in services(text)
    said = re.sub(r"\n#\s+", " ", text)
    assert ("the most frequent among the servers that state any" in said) == \
        any("_" in line for line in servers)
    assert check(text, tmp_path).returncode == 0


CONNECT_TIMEOUTS = {"2s": 2000, "750ms": 750, "1m": 60000, "2m": 60000, "0": None, "soon": None}


@pytest.mark.parametrize("block, way, prefix", [
    ("http", "location / { proxy_pass http://10.0.0.1:80; }", "proxy"),
    pytest.param("http", "location / { grpc_pass grpc://10.0.0.1:80; }", "grpc",
                 marks=pytest.mark.ci),
    pytest.param("stream", "proxy_pass 10.0.0.1:80;", "proxy", marks=pytest.mark.ci)])
def test_m9_connect_timeout(block, way, prefix, tmp_path):
    """M9: the nearest that connect_timeout_ms can say; what it can't is named. The outer one holds
    where there is no inner one."""
    path = tmp_path / "nginx.conf"
    lines = [f"{block} {{ {prefix}_connect_timeout 5s; server {{ listen 80; {way} }}"]
    lines += [f"server {{ listen {port}; {prefix}_connect_timeout {value}; {way} }}"
              for port, value in enumerate(CONNECT_TIMEOUTS, 81)]
    path.write_text("\n".join([*lines, "}"]))
    text = convert(str(path)).stdout
    for port, (value, wanted) in enumerate([("5s", 5000), *CONNECT_TIMEOUTS.items()], 80):
        service = next(part for part in services(text).split("}; ") if f'":{port}"' in part)
        assert re.findall(r"connect_timeout_ms = (\d+)", service) == \
            ([str(wanted)] if wanted else []), value
        assert (f"{prefix}_connect_timeout {value}\n" in text) == (value in ("2m", "0", "soon"))
    assert check(text, tmp_path).returncode == 0


def test_nothing_is_noted_of_an_unused_upstream():
    assert "10.0.0.99" not in convert(f"{CONFS}/odd.conf").stdout


def test_a_part_of_a_configuration(tmp_path):
    """As in sites-enabled: no http around it, and includes relative to nginx's own directory."""
    part = f"{CONFS}/includes/conf.d/20-shop.conf"
    said = convert(part, check=False).stderr
    assert "DIRECTORY says" in said and "proxy_pass http://shop" in said
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
    ("include none;", "include none"),
    ("http {" + "a {" * 200, "blocks are more than"),
    ("http { server { listen 1-99999; } }", "no address"),
    ("stream { server { listen 99999; proxy_pass 10.0.0.1:1; } }", "no address"),
    ("stream { server { listen 1; proxy_pass 10.0.0.1:99999; } }", "no address"),
    ("stream { upstream a { server 10.0.0.1; } server { listen 1; proxy_pass a; } }", "no address"),
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


# ---- beside nginx itself ----

BESIDE = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes 1;
user root;
pid {directory}/pid;
events {{}}
http {{
    access_log off;
    proxy_temp_path {directory}/proxy;
    client_body_temp_path {directory}/body;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream one {{ server {one}; }}
    upstream two {{ server {two}; }}
    server {{ listen 80; location / {{ proxy_pass http://one; }} }}
    server {{ listen 81; allow {client}; deny all; location / {{ proxy_pass http://one; }} }}
    server {{ listen 82; deny {client}; location / {{ proxy_pass http://one; }} }}
    server {{
        listen 83;
        allow {client};
        deny {client}/24;
        location / {{ proxy_pass http://two; }}
    }}
    server {{ listen 84; root {directory}; location /health {{ proxy_pass http://two; }} }}
    server {{ listen 85 default_server; return 444; }}
    server {{ listen 85; server_name two; location / {{ proxy_pass http://two; }} }}
    server {{
        listen 86;
        location / {{ try_files /none @two; }}
        location @two {{ proxy_pass http://two; }}
    }}
}}
stream {{
    upstream one {{ server {one}; }}
    server {{ listen 87; proxy_pass one; }}
    server {{ listen 88; deny all; proxy_pass one; }}
    server {{ listen 89; allow {other}; deny {client}/24; proxy_pass one; }}
}}
"""


def answer(namespace, url, timeout=10 * PATIENCE):
    """What a GET brings; "" for anything but a 200: a refusal, silence, or words of nginx's own."""
    done = namespace.run("curl", "-sf", "-m", timeout, url, check=False)
    return done.stdout if done.returncode == 0 else ""


def test_m7_the_same_clients_get_the_same_answers_as_from_nginx(lab, start_weir, tmp_path):
    """M1, M2, M7: nginx with a file beside weir with what nginx2weir makes of it, each asked at
    each port by two clients."""
    with lab.further_client(0) as other, lab.further_client(1) as own:
        path = tmp_path / "nginx.conf"
        one, two = lab.backend("con1"), lab.backend("con3")
        path.write_text(BESIDE.format(directory=tmp_path, one=one.endpoint, two=two.endpoint,
                                      client=lab_module.CLIENT, other="192.0.2.101"))
        text = convert(str(path)).stdout
        text = re.sub(r"^port = \{.*?^\};", "", text, flags=re.MULTILINE | re.DOTALL)
        text = text.replace("198.51.100.10", lab_module.VIP)
        usual = {key: value for key, value in weir_module.config(lab).items() if key != "services"}
        server = own.popen("nginx", "-p", tmp_path, "-c", path, "-e", "stderr", "-g", "daemon off;")
        try:
            start_weir(text=weir_module.dump(usual) + text)
            for port in range(80, 90):
                for client in (lab.client, other):
                    theirs = answer(client, f"http://192.0.2.102:{port}/")
                    ours = answer(client, f"http://{lab_module.VIP}:{port}/",
                                  10 * PATIENCE if theirs else 0.5)
                    assert ours == theirs, (port, client.name)
            assert answer(lab.client, f"http://{lab_module.VIP}:81/") == "con1\n"
            assert answer(lab.client, f"http://{lab_module.VIP}:83/") == "con3\n"
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
