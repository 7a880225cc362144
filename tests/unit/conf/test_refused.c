/* SPDX-License-Identifier: BSD-3-Clause */
/* Case D8: what is wrong in a file, and the file, line and key that the message names. */
#include "conf_test.h"

struct bad {
	const char *text;
	const char *where; // the line and the key
	const char *what;  // follows
};

#define PORT_KEYS(keys) "port = {\n" keys "\n};\n" SERVICES
#define PORT_ADDRESS(address) "port = { device = \"eth1\";\naddress = " address "; };\n" SERVICES
#define PORT_MORE(keys)                                                                            \
	"port = { device = \"eth1\"; address = \"192.0.2.10/24\";\n" keys "\n};\n" SERVICES
#define TOP(keys) PORT keys "\n" SERVICES
#define LISTEN(listen) PORT WEB("listen = " listen ";\n" BACKENDS)
#define BACKEND(backends) PORT WEB("listen = \":80\";\nbackends = " backends ";")
#define HEALTH(keys) PORT WEB("listen = \":80\"; " BACKENDS "\nhealth = { " keys " };")
#define ACCESS(keys) PORT WEB("listen = \":80\"; " BACKENDS "\n" keys)
#define TWO(first, second)                                                                         \
	PORT "services = {\na = { listen = " first "; " BACKENDS " };\n"                           \
	     "b = { listen = " second "; " BACKENDS " };\n};\n"

static const struct bad scanned[] = {
	/* Syntax, in the words of someone who wants to get it right. */
	{PORT "flows = ;\n", "2: flows", "a value is missing before ;; a string stands in quotes"},
	{PORT "flows 5;\n", "2: flows", "= is missing between the key and 5"},
	{PORT "flows = 5 6;\n", "2:", "unexpected 6 after a value; ; is expected"},
	{PORT "= 5;\n", "2:", "unexpected =; a key is expected, as in key = value;"},
	{PORT "}\n", "2:", "} closes nothing; remove it"},
	{PORT "cores = { workers = [ 1 );\n", "2: cores.workers",
		") where ] is expected, for what opened in line 2"},
	{PORT "cores = {\n control = 1;\n", "4: cores",
		"the file ends before the } for what opened in line 2"},
	{PORT "flows =", "2: flows", "the file ends in the middle of a setting"},
	{PORT "flows", "2: flows", "the file ends in the middle of a setting"},
	{PORT "/* never\nclosed\n", "2:", "the comment /* is not closed; */ is missing"},
	{PORT "instance = \"b;\nflows = 2048;\n", "2: instance",
		"the string is not closed; its \" must stand in the same line"},
	{PORT "instance = b;\n", "2: instance", "b is not a value; a string stands in quotes"},
	{PORT WEB("listen = :80;"), "3: services.web.listen",
		"a value is missing before :; a string stands in quotes"},
	{PORT WEB("listen = 192.0.2.10:80;"), "3: services.web.listen",
		"192.0.2.10 is neither a number nor a key, which has letters"},
	{PORT "flows = $5;\n", "2: flows", "unexpected character $"},
	{PORT "flows = \x01;\n", "2: flows", "unexpected byte 0x01"},
	{PORT "instance = \"a\\x00b\";\n", "2: instance", "\\x00 in a string"},
	{BACKEND("( \"10.0.0.1:80\",\n\"10.0.0.2:80\",\n)"), "5: services.web.backends[1]",
		"trailing comma before ); remove the comma"},
	{TOP("cores = { workers = [ 1, 2, ]; };"), "2: cores.workers[1]",
		"trailing comma before ]; remove the comma"},
	{BACKEND("( \"10.0.0.1:80\"\n\"10.0.0.2:80\" )"), "5: services.web.backends[0]",
		"a comma is missing before \"10.0.0.2:80\""},
	{BACKEND("( , )"), "4: services.web.backends", "a value is missing before ,"},
	{BACKEND("[ { address = \"10.0.0.1:80\"; } ]"), "4: services.web.backends[0]",
		"{ inside [ ], which holds plain values only; write ( ) for a list"},
	{TOP("x = ((((((((((((((((((1))))))))))))))))));"), "2: x[0][0]", NULL},
	{TOP("cores = { workers = [ 1, \"2\" ]; };"), "2: cores.workers[1]",
		"\"2\" is of another type than the element before it"},
	/* Numbers that libconfig 1.5 would change without a word. */
	{TOP("flows = 4294967376;"), "2: flows",
		"4294967376 is out of range; expected an integer from 1024 to 67108864"},
	{TOP("flows = 0x100000050;"), "2: flows", "4294967376 is out of range"},
	{TOP("flows = 4294967376L;"), "2: flows", "4294967376 is out of range"},
	{TOP("flows = 18446744073709551696;"), "2: flows",
		"18446744073709551696 is out of range: it does not fit in 64 bits"},
	{TOP("flows = 9223372036854775808L;"), "2: flows", "does not fit in 64 bits"},
	{TOP("flows = 0x1ffffffffffffffffL;"), "2: flows", "does not fit in 64 bits"},
	{TOP("flows = 02048;"), "2: flows", "02048 begins with 0; write the number without"},
	{TOP("flows = 5x;"), "2: flows", "5x has a unit"},
	{TOP("flows = 0xffffffff;"), "2: flows", "4294967295 is out of range"},
	/* Keys. */
	{TOP("flows = 2048;\nflows = 4096;"), "3: flows", "given twice, first in "},
	{PORT PORT SERVICES, "2: port", "given twice, first in "},
	{TWO("\":80\"", "\":81\"; listen = \":82\""), "4: services.b.listen", "given twice"},
	{TOP("flow = 2048;"), "2: flow", "unknown key; did you mean \"flows\"?"},
	{TOP("Flows = 2048;"), "2: Flows", "unknown key; did you mean \"flows\"?"},
	{TOP("x = 2048;"), "2: x", "unknown key; known here: instance, flows, port, cores"},
	{PORT_MORE("adress = \"192.0.2.1/24\";"), "2: port.adress", "did you mean \"address\"?"},
	{HEALTH("intervall_ms = 5;"), "4: services.web.health.intervall_ms",
		"did you mean \"interval_ms\"?"},
	{BACKEND("( { address = \"10.0.0.1:80\";\nwieght = 1; } )"),
		"5: services.web.backends[0].wieght", "did you mean \"weight\"?"},
	{SERVICES, "1: port:", "is missing; expected a group { ... }"},
	{PORT, "1: services:", "is missing; expected a group of services"},
	{"", "1: port:", "is missing"},
	{PORT_KEYS("device = \"eth1\";"),
		"1: port.address:", "is missing; expected \"address/length\""},
	{PORT_KEYS("address = \"192.0.2.10/24\";"), "1: port.device:", "is missing"},
	{PORT WEB(BACKENDS), "2: services.web.listen:", "is missing"},
	{PORT WEB("listen = \":80\";"), "2: services.web.backends:", "is missing"},
	{BACKEND("( {\nweight = 1; } )"), "4: services.web.backends[0].address:", "is missing"},
};

static const struct bad typed[] = {
	{TOP("flows = \"2048\";"), "2: flows", "is a string; expected an integer from 1024"},
	{TOP("flows = 1e6;"), "2: flows", "is a floating-point number; expected an integer"},
	{TOP("flows = true;"), "2: flows", "is a boolean; expected an integer"},
	{TOP("flows = { size = 5; };"), "2: flows.size",
		"5 is out of range; expected an integer from 1024"},
	{TOP("flows = { persist = 1; };"), "2: flows.persist",
		"is an integer; expected true or false"},
	{TOP("flows = { sizes = 2048; };"), "2: flows.sizes", "did you mean \"size\"?"},
	{TOP("instance = 5;"), "2: instance",
		"is an integer; expected at most 16 of a-z, 0-9 and -"},
	{TOP("cores = 5;"), "2: cores", "is an integer; expected a group { ... }"},
	{"port = \"eth1\";\n" SERVICES, "1: port", "is a string; expected a group { ... }"},
	{PORT "services = ( );\n", "2: services", "is a list; expected a group of services"},
	{PORT "services = { };\n", "2: services", "holds no service; expected at least one"},
	{PORT "services = {\nweb = 5; };\n", "3: services.web",
		"is an integer; expected a service, as in"},
	{PORT_MORE("hugepages = 1;"), "2: port.hugepages", "is an integer; expected true or false"},
	{PORT_MORE("mtu = 575;"), "2: port.mtu",
		"575 is out of range; expected an integer from 576 to 9216"},
	{PORT_MORE("mtu = -1500;"), "2: port.mtu", "-1500 is out of range"},
	{PORT_MORE("driver = \"dpdk\";"), "2: port.driver",
		"\"dpdk\" is unknown; expected \"af_xdp\" or \"af_packet\""},
	{PORT_MORE("driver = 5;"), "2: port.driver", "is an integer; expected \"af_xdp\" or"},
	{PORT_MORE("netns = \"a/b\";"), "2: port.netns", "\"a/b\" is not valid; expected a name"},
	{PORT_MORE("eal = [ ];"), "2: port.eal", "is empty; expected an array of EAL arguments"},
	{PORT_MORE("eal = [ \"\" ];"), "2: port.eal[0]", "is an empty string"},
	{PORT_MORE("eal = [ 5 ];"), "2: port.eal[0]", "is an integer; expected an array of EAL"},
	{PORT_MORE("punt = { arp = 0; };"), "2: port.punt.arp",
		"0 is out of range; expected an integer from 1 to 10000000"},
	{PORT_MORE("punt = { nd = 0; };"), "2: port.punt.nd", "0 is out of range; expected"},
	{TOP("instance = \"Foo\";"), "2: instance", "\"Foo\" is not valid; expected at most 16"},
	{TOP("instance = \"abcdefghijklmnopq\";"), "2: instance", "is not valid"},
	{TOP("instance = \"a\\nb\";"), "2: instance", "holds the control character 0x0a"},
	{TOP("cores = { control = 1024; };"), "2: cores.control", "1024 is out of range"},
	{TOP("cores = { workers = [ ]; };"), "2: cores.workers",
		"has 0 elements; expected an array"},
	{TOP("cores = { workers = 2; };"), "2: cores.workers", "is an integer; expected an array"},
	{TOP("cores = { workers = [ 1,\n1024 ]; };"), "3: cores.workers[1]",
		"1024 is out of range; expected an integer from 0 to 1023"},
	{TOP("cores = { workers = [ 4294967297 ]; };"), "2: cores.workers[0]",
		"4294967297 is out of range"},
	{TOP("cores = { workers = [ \"1\" ]; };"), "2: cores.workers[0]", "is a string"},
	{TOP("cores = { idle_sleep_us = 1000001; };"), "2: cores.idle_sleep_us", "out of range"},
	{TOP("timeouts = { time_wait_s = 0; };"), "2: timeouts.time_wait_s",
		"0 is out of range; expected an integer from 1 to 64800"},
	{TOP("timeouts = { established_s = 64801; };"), "2: timeouts.established_s",
		"64801 is out"},
	{TOP("snat = { ports = \"1024\"; };"), "2: snat.ports", "\"1024\" is no range of ports"},
	{TOP("snat = { ports = \"0-80\"; };"), "2: snat.ports", "is no range of ports"},
	{TOP("snat = { ports = \"1-65536\"; };"), "2: snat.ports", "is no range of ports"},
	{TOP("snat = { ports = \"1-4294967376\"; };"), "2: snat.ports", "is no range of ports"},
	{TOP("snat = { ports = \"80-70\"; };"), "2: snat.ports", "is no range of ports"},
	{TOP("snat = { ports = \"1024-2000,3000-4000\"; };"), "2: snat.ports", "is no range"},
	{TOP("snat = { ports = [ \"1024-2000\",\n\"2000-3000\" ]; };"), "3: snat.ports[1]",
		"2000-3000 overlaps 1024-2000; expected ranges that share no port"},
	{TOP("snat = { ports = [ \"1-2\", \"3-4\", \"5-6\", \"7-8\", \"9-10\" ]; };"),
		"2: snat.ports", "has 5 elements; expected at most 4"},
	{TOP("snat = { ports = [ ]; };"), "2: snat.ports", "is empty; expected at most 4 ranges"},
	{PORT WEB("listen = \":80\"; " BACKENDS "\nscheduler = \"rr\";"),
		"4: services.web.scheduler",
		"\"rr\" is unknown; expected \"maglev\", \"round_robin\", \"least_conn\" or "
		"\"source\""},
	{PORT WEB("listen = \":80\"; " BACKENDS "\non_all_down = \"rst\";"),
		"4: services.web.on_all_down", "expected \"reset\", \"drop\", \"forward\" or"},
	{PORT WEB("listen = \":80\"; " BACKENDS "\non_down = \"rst\";"), "4: services.web.on_down",
		"expected \"auto\", \"keep\" or \"reset\""},
	{PORT WEB("listen = \":80\"; " BACKENDS "\non_down_reset_ms = 3600001;"),
		"4: services.web.on_down_reset_ms", "from 0 to 3600000"},
	{PORT WEB("listen = \":80\"; " BACKENDS "\non_remove = \"keep\";"),
		"4: services.web.on_remove", "expected \"drain\" or \"reset\""},
	{PORT WEB("listen = \":80\"; " BACKENDS "\non_all_down = \"withdraw\";"),
		"4: services.web.on_all_down", "is every address of the port"},
	{PORT WEB("listen = \"192.0.2.10:80\"; " BACKENDS "\non_all_down = \"withdraw\";"),
		"4: services.web.on_all_down", "with the length of a network"},
	{"port = { device = \"eth1\"; address = [ \"192.0.2.10/24\", \"192.0.2.11/32\" ]; };\n"
	 "services = {\na = { listen = \"192.0.2.11:80\"; " BACKENDS
	 "\non_all_down = \"withdraw\"; };\n"
	 "b = { listen = \":81\"; " BACKENDS " };\n};\n",
		"4: services.a.on_all_down",
		"would withdraw 192.0.2.11, where service b listens too, which has another "
		"on_all_down; give both \"withdraw\", or each an address of its own"},
	{HEALTH("type = \"icmp\";"), "4: services.web.health.type",
		"\"icmp\" is unknown; expected \"none\", \"tcp\", \"http\" or \"https\""},
	{HEALTH("port = 4294967376;"), "4: services.web.health.port",
		"4294967376 is out of range; expected an integer from 0 to 65535"},
	{HEALTH("interval_ms = 9;"), "4: services.web.health.interval_ms", "9 is out of range"},
	{HEALTH("timeout_ms = 60001;"), "4: services.web.health.timeout_ms",
		"60001 is out of range"},
	{HEALTH("timeout_ms = 501;"), "4: services.web.health.timeout_ms",
		"501 is longer than interval_ms (500): a probe must end before the next begins"},
	{HEALTH("rise = 0;"), "4: services.web.health.rise", "0 is out of range"},
	{HEALTH("path = \"/healthz\";"), "4: services.web.health.path",
		"is for HTTP probes; add type = \"http\" or \"https\", or remove it"},
	{HEALTH("type = \"http\"; verify = true;"), "4: services.web.health.verify",
		"is for HTTPS probes"},
	{HEALTH("type = \"http\"; path = \"healthz\";"), "4: services.web.health.path",
		"\"healthz\" is not valid; expected a path that begins with /"},
	{HEALTH("type = \"http\"; path = \"/a b\";"), "4: services.web.health.path",
		"is not valid"},
	{HEALTH("type = \"http\"; path = \"/\\r\\nX: y\";"), "4: services.web.health.path",
		"holds the control character 0x0d"},
	{HEALTH("type = \"http\"; host = \"a b\";"), "4: services.web.health.host", "is not valid"},
	{HEALTH("type = \"http\"; host = \"\";"), "4: services.web.health.host", "is not valid"},
	{HEALTH("type = \"http\"; status = 99;"), "4: services.web.health.status",
		"99 is out of range; expected a status code or a range"},
	{HEALTH("type = \"http\"; status = \"299-200\";"), "4: services.web.health.status",
		"\"299-200\" is not valid"},
	{HEALTH("type = \"http\"; status = \"2xx\";"), "4: services.web.health.status",
		"is not valid"},
	{HEALTH("type = \"http\"; status = true;"), "4: services.web.health.status",
		"is a boolean"},
	{ACCESS("timeouts = { established_s = 0; };"), "4: services.web.timeouts.established_s",
		"0 is out of range; expected an integer from 1 to 64800"},
	{ACCESS("timeouts = { idle_s = 5; };"), "4: services.web.timeouts.idle_s", "unknown key"},
	{ACCESS("timeouts = 60;"), "4: services.web.timeouts", "is an integer; expected a group"},
	{ACCESS("on_idle = \"kill\";"), "4: services.web.on_idle",
		"\"kill\" is unknown; expected \"drop\" or \"reset\""},
};

static const struct bad addressed[] = {
	/* The port. */
	{PORT_KEYS("device = \"\"; address = \"192.0.2.10/24\";"), "2: port.device",
		"\"\" is not valid; expected a PCI address, a kernel interface or a DPDK device "
		"string"},
	{PORT_KEYS("device = \"a-kernel-interface\"; address = \"192.0.2.10/24\";"),
		"2: port.device", "is not valid"},
	{PORT_KEYS("device = \"0000:03:00\"; address = \"192.0.2.10/24\";"), "2: port.device",
		"\"0000:03:00\" is no PCI address; expected one as in \"0000:03:00.0\""},
	{PORT_KEYS("device = \"0000:03:00.0\"; address = \"192.0.2.10/24\";\ndriver = \"af_xdp\";"),
		"3: port.driver",
		"is for kernel interfaces, but \"0000:03:00.0\" is a PCI address; remove driver"},
	{PORT_KEYS("device = \"net_tap0,iface=x\"; address = \"192.0.2.10/24\";\n"
		   "driver = \"af_xdp\";"),
		"3: port.driver", "is a DPDK device string; remove driver"},
	{PORT_ADDRESS("\"192.0.2.10\""), "2: port.address",
		"\"192.0.2.10\" lacks its prefix length; write \"192.0.2.10/24\" or what"},
	{PORT_ADDRESS("\"192.0.2.256/24\""), "2: port.address",
		"\"192.0.2.256/24\" is no address and length; expected \"address/length\""},
	{PORT_ADDRESS("\"192.0.2.10/33\""), "2: port.address", "is no address and length"},
	{PORT_ADDRESS("\"192.0.2.10/0\""), "2: port.address", "has length 0"},
	{PORT_ADDRESS("\"192.0.2.0/24\""), "2: port.address",
		"\"192.0.2.0/24\" is the network's own address; expected one that a host can have"},
	{PORT_ADDRESS("\"192.0.2.255/24\""), "2: port.address",
		"\"192.0.2.255/24\" is the network's broadcast address"},
	{PORT_ADDRESS("\"127.0.0.1/8\""), "2: port.address", "is a loopback address"},
	{PORT_ADDRESS("\"224.0.0.5/24\""), "2: port.address", "is a multicast address"},
	{PORT_ADDRESS("\"0.0.0.0/32\""), "2: port.address", "is an address of no host"},
	{PORT_ADDRESS("[ \"2001:db8::/64\" ]"), "2: port.address[0]",
		"is the network's own address"},
	{PORT_ADDRESS("[ \"192.0.2.10/24\",\n\"192.0.2.10/32\" ]"), "3: port.address[1]",
		"\"192.0.2.10/32\" is given twice; remove one"},
	{PORT_ADDRESS("[ ]"), "2: port.address", "is empty; expected \"address/length\""},
	{PORT_ADDRESS("[ \"192.0.2.10/24\", \"2001:db8::1/64\" ]; mtu = 1279"), "2: port.mtu",
		"1279 is too small for the port's IPv6 addresses; expected 1280 or more"},
	{PORT_MORE("gateway = \"2001:db8::1\";"), "2: port.gateway",
		"\"2001:db8::1\" is a router for IPv6, of which port.address has no address"},
	{PORT_MORE("gateway = \"192.0.2.10\";"), "2: port.gateway", "is the port's own address"},
	{PORT_MORE("gateway = \"192.0.2.255\";"), "2: port.gateway",
		"is the network's broadcast address; expected the router's address"},
	{PORT_MORE("gateway = \"192.0.2.1/24\";"), "2: port.gateway", "is no address; expected an"},
	{PORT_MORE("gateway = [ \"192.0.2.1\", \"192.0.2.2\" ];"), "2: port.gateway[1]",
		"\"192.0.2.2\" is the second of its family"},
	{TOP("snat = { addresses = \"192.0.2.11\"; };"), "2: snat.addresses",
		"\"192.0.2.11\" is not an address of the port; add \"192.0.2.11/32\" to "
		"port.address"},
	{TOP("snat = { addresses = [ \"192.0.2.10\", \"192.0.2.10\" ]; };"), "2: snat.addresses[1]",
		"is given twice"},
	{TOP("snat = { addresses = \"host1\"; };"), "2: snat.addresses", "\"host1\" is no address"},
	{"port = { device = \"eth1\"; address = [ \"192.0.2.10/24\", \"2001:db8::1/64\" ]; };\n"
	 "snat = { addresses = \"2001:db8::1\"; };\n" SERVICES,
		"2: snat.addresses", "holds no IPv4 address, which service web needs"},
	/* Listen addresses. */
	{LISTEN("80"), "3: services.web.listen", "is an integer; expected \"address:port\""},
	{LISTEN("\"80\""), "3: services.web.listen",
		"\"80\" lacks its colon; expected \":port\", as in \":80\""},
	{LISTEN("\":\""), "3: services.web.listen", "\":\" is no port; expected \":port\""},
	{LISTEN("\":0\""), "3: services.web.listen", "\":0\" has a port out of range"},
	{LISTEN("\":65536\""), "3: services.web.listen", "has a port out of range; expected 1 to"},
	{LISTEN("\":4294967376\""), "3: services.web.listen", "has a port out of range"},
	{LISTEN("\"192.0.2.10:99999\""), "3: services.web.listen", "has a port out of range"},
	{LISTEN("[ ]"), "3: services.web.listen", "is empty; expected"},
	{LISTEN("\"192.0.2.11:80\""), "3: services.web.listen",
		"192.0.2.11 is not an address of the port; add \"192.0.2.11/32\" to port.address"},
	{LISTEN("\"0.0.0.0:80\""), "3: services.web.listen",
		"\"0.0.0.0:80\": write every address of the port as \":80\""},
	{LISTEN("\"[2001:db8::1]:80\""), "3: services.web.listen",
		"2001:db8::1 is IPv6 and the backends are IPv4: weir does not translate"},
	{LISTEN("[ \":80\",\n\"192.0.2.10:80\" ]"), "4: services.web.listen[1]",
		"192.0.2.10:80 is meant by \":80\" ("},
	{TWO("\":80\"", "\":80\""), "4: services.b.listen",
		"192.0.2.10:80 is taken: service a listens there by \":80\""},
	{TWO("\":80\"", "\"192.0.2.10:80\""), "4: services.b.listen", "192.0.2.10:80 is taken"},
	{TWO("\"192.0.2.10:80\"", "[ \":81\", \":80\" ]"), "4: services.b.listen[1]",
		"192.0.2.10:80 is taken: service a listens there by \"192.0.2.10:80\""},
	{PORT WEB("listen = \":80\";\nbackends = ( \"[2001:db8::1]:80\" );"),
		"3: services.web.listen",
		"\":80\" means the port's IPv6 addresses, as the backends"},
	/* Backends. */
	{BACKEND("( )"), "4: services.web.backends", "holds no backend; expected a list"},
	{BACKEND("\"10.0.0.1:80\""), "4: services.web.backends", "is a string; expected a list"},
	{BACKEND("( 5 )"), "4: services.web.backends[0]",
		"is an integer; expected \"address:port\""},
	{PORT WEB("listen = \"host1:8080\";\n" BACKENDS), "3: services.web.listen",
		"\"host1:8080\" is a name; give an address and port, as in \"10.0.0.11:8080\""},
	{BACKEND("( \"10.0.0.1:80 weight=3\" )"), "4: services.web.backends[0]",
		"has more than address and port; a backend's keys stand in a group"},
	{BACKEND("( \"host1:99999\" )"), "4: services.web.backends[0]", "port out of range"},
	{BACKEND("( \"host..x:80\" )"), "4: services.web.backends[0]", "is no name that DNS can"},
	{BACKEND("( \"-x:80\" )"), "4: services.web.backends[0]", "is no name that DNS can have"},
	{BACKEND("( { address = \"a.b:80\"; }, \"a.b:80\" )"), "4: services.web.backends[1]",
		"is that of backends[0]"},
	{TOP("resolvers = \"dns.example\";"), "2: resolvers", "is no address"},
	{BACKEND("( \"10.0.0.1:80\",\n\"10.0.0.300:80\"\n)"), "5: services.web.backends[1]",
		"\"10.0.0.300:80\" is no address"},
	{BACKEND("( \"10.0.0.1\" )"), "4: services.web.backends[0]", "lacks its port"},
	{BACKEND("( \"10.0.0.1:0\" )"), "4: services.web.backends[0]", "has a port out of range"},
	{BACKEND("( \"10.0.0.1:4294967376\" )"), "4: services.web.backends[0]", "out of range"},
	{BACKEND("( \"2001:db8::1:80\" )"), "4: services.web.backends[0]", "its brackets"},
	{BACKEND("( \"10.0.0.1/32:80\" )"), "4: services.web.backends[0]", "has a /"},
	{BACKEND("( \"\" )"), "4: services.web.backends[0]", "\"\" is empty"},
	{BACKEND("( \"127.0.0.1:80\" )"), "4: services.web.backends[0]", "is a loopback address"},
	{BACKEND("( \"255.255.255.255:80\" )"), "4: services.web.backends[0]", "broadcast address"},
	{BACKEND("( \"192.0.2.255:80\" )"), "4: services.web.backends[0]",
		"192.0.2.255 is the network's broadcast address; expected one that a host can "
		"have"},
	{BACKEND("( \"192.0.2.0:80\" )"), "4: services.web.backends[0]",
		"192.0.2.0 is the network's own address"},
	{BACKEND("( \"192.0.2.10:80\" )"), "4: services.web.backends[0]",
		"192.0.2.10 is an address of weir0 itself: the balancer can't send to itself; "
		"publish the container on the host's other address"},
	{BACKEND("( \"10.0.0.1:80\",\n\"[2001:db8::1]:80\" )"), "5: services.web.backends[1]",
		"2001:db8::1 is IPv6 and the service's first backend is IPv4: weir does not"},
	{BACKEND("( \"[fe80::1]:80\" )"), "4: services.web.backends[0]", "is a link-local address"},
	{BACKEND("( \"[::ffff:10.0.0.1]:80\" )"), "4: services.web.backends[0]",
		"an IPv4 address mapped"},
	{BACKEND("( \"10.0.0.1:80\",\n\"10.0.0.2:80\",\n\"10.0.0.1:80\" )"),
		"6: services.web.backends[2]",
		"address \"10.0.0.1:80\" is that of backends[0] (line 4)"},
	{BACKEND("( { address = \"10.0.0.1:80\"; name = \"a\"; },\n"
		 "{ address = \"10.0.0.2:80\"; name = \"a\"; } )"),
		"5: services.web.backends[1]",
		"name \"a\" is that of backends[0] (line 4) too; rename one"},
	{BACKEND("( \"10.0.0.1:80\",\n{ address = \"10.0.0.2:80\"; name = \"10.0.0.1:80\"; } )"),
		"5: services.web.backends[1]", "name \"10.0.0.1:80\" is that of backends[0]"},
	{BACKEND("( { address = \"10.0.0.1:80\"; name = \"a,b\"; } )"),
		"4: services.web.backends[0].name",
		"\"a,b\" is not valid; expected 1 to 63 letters"},
	{BACKEND("( { address = \"10.0.0.1:80\"; name = \"\"; } )"),
		"4: services.web.backends[0].name", "is not valid"},
	{BACKEND("( { address = \"10.0.0.1:80\"; weight = 257; } )"),
		"4: services.web.backends[0].weight",
		"257 is out of range; expected an integer from 0"},
	{BACKEND("( { address = \"10.0.0.1:80\"; backup = 1; } )"),
		"4: services.web.backends[0].backup", "is an integer; expected true or false"},
	{BACKEND("( { address = \"10.0.0.1:80\"; max_conns = -1; } )"),
		"4: services.web.backends[0].max_conns",
		"-1 is out of range; expected an integer from 0"},
	{BACKEND("( { address = \"10.0.0.1:80\"; slow_start_ms = 3600001; } )"),
		"4: services.web.backends[0].slow_start_ms", "3600001 is out of range"},
	{BACKEND("( { address = \"10.0.0.1:80\"; backup = true; } )"), "4: services.web.backends",
		"all are backups, so that there is nothing they could stand in for"},
	/* Clients. */
	{ACCESS("allow = \"10.0.0.0/33\";"), "4: services.web.allow",
		"\"10.0.0.0/33\" is no address and length; expected \"address/length\""},
	{ACCESS("deny = [ \"10.0.0.0/8\",\n\"10.1.2.3/8\" ];"), "5: services.web.deny[1]",
		"\"10.1.2.3/8\" has bits set behind its length; write \"10.0.0.0/8\""},
	{ACCESS("deny = [ \"all\" ];"), "4: services.web.deny[0]", "is no address and length"},
	{ACCESS("deny = [ ];"), "4: services.web.deny", "is empty; expected \"address/length\""},
	{ACCESS("deny = 10;"), "4: services.web.deny",
		"is an integer; expected \"address/length\""},
	{ACCESS("allow = [ \"10.0.0.0/8\", \"2001:db8::/32\" ];"), "4: services.web.allow[1]",
		"\"2001:db8::/32\" is no address that clients of this service have, which is IPv4"},
	{ACCESS("allow = [ \"10.0.0.0/8\", \"10.1.0.0/16\" ];\ndeny = [ \"10.0.0.0/16\",\n"
		"\"10.1.0.0/16\" ];"),
		"6: services.web.deny[1]",
		"\"10.1.0.0/16\" stands in allow too; remove it from one of them"},
	{ACCESS("connect_tries = 0;"), "4: services.web.connect_tries", "0 is out of range"},
	{ACCESS("connect_timeout_ms = 60001;"), "4: services.web.connect_timeout_ms",
		"60001 is out of range"},
	{ACCESS("retry_budget = 101;"), "4: services.web.retry_budget", "101 is out of range"},
	{ACCESS("passive = { fails = 1001; };"), "4: services.web.passive.fails",
		"1001 is out of range"},
	{ACCESS("passive = { window = 5; };"), "4: services.web.passive.window", "window_ms"},
	{ACCESS("slow_start_ms = \"5s\";"), "4: services.web.slow_start_ms",
		"is a string; expected an integer from 0 to 3600000"},
	{BACKEND("( { address = \"10.0.0.1:80\"; weight = 0; } )"), "4: services.web.backends",
		"all weights are 0, so that no backend would be chosen; give one a weight"},
};

/* Case M12: what came with files of other balancers, editors and habits, and what useless settings
 * there were. */
static const struct bad habits[] = {
	{BACKEND("( \"app.example.org\" )"), "4: services.web.backends[0]",
		"lacks its port; expected \"name:port\", as in \"app.example.org:8080\""},
	{BACKEND("( { address = \"host1\"; } )"), "4: services.web.backends[0].address",
		"\"host1\" lacks its port"},
	{BACKEND("( \"http://app.example.org:80\" )"), "4: services.web.backends[0]",
		"is a URL; expected \"address:port\""},
	{BACKEND("( \"unix:/run/app.sock\" )"), "4: services.web.backends[0]", "is a Unix socket"},
	{BACKEND("( \"app:http\" )"), "4: services.web.backends[0]",
		"\"app:http\" has no number as its port"},
	{BACKEND("( \"app:\" )"), "4: services.web.backends[0]", "has no number as its port"},
	{BACKEND("( \"localhost:80\" )"), "4: services.web.backends[0]",
		"is the balancer itself, which can't send to itself"},
	{BACKEND("( \"[fe80::1%eth0]:80\" )"), "4: services.web.backends[0]",
		"has a zone, and weir0 is the only one"},
	{BACKEND("( \"010.0.0.1:80\" )"), "4: services.web.backends[0]",
		"has numbers with leading zeros; write them without"},
	{BACKEND("( \"10.00.0.1:80\" )"), "4: services.web.backends[0]", "leading zeros"},
	{BACKEND("( \" 10.0.0.1:80\" )"), "4: services.web.backends[0]",
		"begins or ends with a blank; remove it"},
	{BACKEND("( \"10.0.0.1:80 \" )"), "4: services.web.backends[0]", "with a blank"},
	{BACKEND("( \"app.x:80\", \"APP.x:80\" )"), "4: services.web.backends[1]",
		"address \"APP.x:80\" is that of backends[0] (line 4) too"},
	{BACKEND("( { address = \"10.0.0.1:80\";\nresolve_ms = 5; } )"),
		"5: services.web.backends[0].resolve_ms",
		"is for names, and the address is none; remove it"},
	{BACKEND("( \"10.0.0.1:80\";\n\"10.0.0.2:80\" )"), "4: services.web.backends[0]",
		"; between the elements of a list; write a comma"},
	{BACKEND("( \"10.0.0.1\" \":80\" )"), "4: services.web.backends[0]",
		"a comma is missing before \":80\" (strings aren't joined)"},
	{BACKEND("( { address = \"10.0.0.1:80\"; backup = yes; } )"),
		"4: services.web.backends[0].backup", "yes is not a value; write true"},
	{BACKEND("( { address = \"10.0.0.1:80\"; backup = Off; } )"),
		"4: services.web.backends[0].backup", "Off is not a value; write false"},
	{LISTEN("\"*:80\""), "3: services.web.listen",
		"\"*:80\": write every address of the port as \":80\""},
	{LISTEN("':80'"), "3: services.web.listen",
		"unexpected '; a string stands in double quotes: \""},
	{LISTEN("\xe2\x80\x9c:80\xe2\x80\x9d"), "3: services.web.listen",
		"a typographic character; a string stands in plain quotes: \""},
	{LISTEN("\xc2\xa0\":80\""), "3: services.web.listen", "a no-break space; write a blank"},
	{LISTEN("[ \"192.0.2.10:80\", \":80\" ]"), "3: services.web.listen[1]",
		"192.0.2.10:80 is meant by \"192.0.2.10:80\" ("},
	{"\xef\xbb\xbf" PORT SERVICES, "1:", "a byte order mark; save the file without it"},
	{PORT "services = { web.de = { listen = \":80\"; " BACKENDS " }; };\n", "2: services",
		"web.de is neither a number nor a key, which has letters, digits, - and _ alone"},
	{HEALTH("interval_ms = 250ms;"), "4: services.web.health.interval_ms",
		"250ms has a unit; write the number alone, in the unit that the key's name tells"},
	{TOP("flows = 1M;"), "2: flows", "1M has a unit"},
	{TOP("flows = 2048;;"), "2:", "unexpected ;; remove it"},
	{TOP("instance = \"a\" \"b\";"),
		"2:", "\"b\" after a value; ; is expected (strings aren't"},
	{"port = { device = \"eth1\"; address = \"2001:db8::10/64\"; };\n" WEB(
		 "listen = \":80\"; backends = ( \"app.example.org:80\" );"),
		"3: services.web.listen",
		"a service of names alone is IPv4 unless its first address to listen on is IPv6, "
		"and it has none; write \"[2001:db8::10]:80\""},
};

static void check_table(const struct bad *table, size_t nb)
{
	unsigned failed = 0;

	for (size_t i = 0; i < nb; i++) {
		struct conf_error error;
		char where[256];
		struct conf *conf = test_load(table[i].text, &error);
		snprintf(where, sizeof(where), "%s:%s", test_path("test.conf"), table[i].where);
		if (conf != NULL || strncmp(error.text, where, strlen(where)) != 0 ||
			(table[i].what != NULL && strstr(error.text, table[i].what) == NULL)) {
			print_error("row %zu: expected %s: %s\n     got %s\n", i, where,
				table[i].what != NULL ? table[i].what : "", error.text);
			failed++;
		}
		if (getenv("CONF_TEST_PRINT") != NULL)
			print_message("%s\n", error.text);
		conf_free(conf);
	}
	assert_int_equal(failed, 0);
}

static void syntax_numbers_and_keys_are_refused_with_their_place_D8(void **state)
{
	check_table(scanned, sizeof(scanned) / sizeof(scanned[0]));
}

static void types_and_ranges_are_refused_with_what_is_expected_D8(void **state)
{
	check_table(typed, sizeof(typed) / sizeof(typed[0]));
}

static void addresses_that_cannot_work_are_refused_with_what_to_do_D8(void **state)
{
	check_table(addressed, sizeof(addressed) / sizeof(addressed[0]));
}

static void habits_are_refused_with_what_would_be_right_M12(void **state)
{
	check_table(habits, sizeof(habits) / sizeof(habits[0]));
}

/* A service name as long as the file: the message must still say what is wrong. */
/* Case E40: more than a scheduler can choose from. */
static void a_service_of_too_many_backends_is_refused(void **state)
{
	enum { COUNT = CONF_SERVICE_BACKENDS_MAX + 1 };
	static const char head[] = PORT "services = { web = { listen = \":80\";\nbackends = (\n";
	size_t size = sizeof(head) + COUNT * 24;
	char *text = malloc(size);
	size_t at = snprintf(text, size, "%s", head);
	struct conf_error error;

	for (unsigned i = 0; i < COUNT; i++)
		at += snprintf(text + at, size - at, "%s\"10.%u.%u.%u:80\"", i == 0 ? "" : ",\n",
			i >> 16, i >> 8 & 255, i & 255);
	snprintf(text + at, size - at, "); }; };\n");
	assert_null(test_load(text, &error));
	assert_non_null(strstr(error.text,
		":3: services.web.backends: has 65537 backends; a service has 65536 at most"));
	free(text);
}

static void long_names_do_not_crowd_out_the_message(void **state)
{
	static char text[8192], name[5000];
	struct conf_error error;

	memset(name, 'x', sizeof(name) - 1);
	snprintf(text, sizeof(text), PORT "services = { %s = { listen = \":80\"; }; };\n", name);
	assert_null(test_load(text, &error));
	assert_non_null(strstr(error.text, "the name is too long"));
	snprintf(text, sizeof(text), PORT "instance = \"%s\";\n" SERVICES, name);
	assert_null(test_load(text, &error));
	assert_non_null(strstr(error.text, "expected at most 16 of a-z"));
	assert_null(conf_load(name, &error));
	assert_non_null(strstr(error.text, "File name too long"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(syntax_numbers_and_keys_are_refused_with_their_place_D8),
		cmocka_unit_test(types_and_ranges_are_refused_with_what_is_expected_D8),
		cmocka_unit_test(addresses_that_cannot_work_are_refused_with_what_to_do_D8),
		cmocka_unit_test(habits_are_refused_with_what_would_be_right_M12),
		cmocka_unit_test(a_service_of_too_many_backends_is_refused),
		cmocka_unit_test(long_names_do_not_crowd_out_the_message),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
