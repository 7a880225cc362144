-- SPDX-License-Identifier: BSD-3-Clause
-- For wrk without a balancer in between: each of its threads has a server of its own.
local servers = {
    {"192.0.2.21", "8080"}, {"192.0.2.21", "8081"}, {"192.0.2.22", "8080"}, {"192.0.2.22", "8081"},
}
local threads = 0

function setup(thread)
    local server = servers[threads % #servers + 1]
    thread.addr = wrk.lookup(server[1], server[2])[1]
    threads = threads + 1
end
