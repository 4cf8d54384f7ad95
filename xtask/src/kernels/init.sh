#!/bin/sh
# The first process of a guest: two pods on a veth, an agent, traffic through both, and everything
# worth knowing on the console, in sections that begin with `@@ NAME`.

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /tmp

section() { echo "@@ $1"; }
# However it ends, the guest ends with it.
finish() {
  section end
  cat /proc/uptime
  poweroff -f
}
fail() {
  section failed
  echo "$1"
  shift
  for file in "$@"; do cat "$file"; done
  finish
}

# as_nobody CAPABILITIES COMMAND: with these and no others, as in a container. Becomes the command.
as_nobody() {
  set=-all,$1
  shift
  exec /usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
    --bounding-set $set --inh-caps $set --ambient-caps $set "$@"
}
capabilities=+bpf,+perfmon,+net_admin
# Before Linux 5.11 the memory of maps counts, and the unit in deploy/ does the same.
ulimit -l unlimited

section kernel
uname -r
insmod /veth.ko || fail "the module veth cannot be loaded"

section doctor
(as_nobody $capabilities hoptrace doctor --json)

# A pod is a network namespace, kept by a process that sleeps.
ip link set lo up
mesh=/sys/fs/cgroup/mesh
mkdir $mesh
for pod in client server; do
  unshare -n sleep 1000 &
  eval ${pod}_pid=$!
done
# Both have left our namespace once theirs differ from it.
for pid in $client_pid $server_pid; do
  until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do usleep 10000; done
done
# run POD CONTAINER COMMAND: in the pod's namespace and the container's cgroup.
run() {
  pod=$1
  mkdir -p $mesh/$2
  eval pid=\$${pod}_pid
  shift
  (
    echo 0 >$mesh/$1/cgroup.procs
    shift
    exec nsenter --net=/proc/$pid/ns/net "$@"
  )
}
# The kernel names the other end itself.
ip link add client type veth || fail "no pair of veth can be made"
ip link set client netns $client_pid
ip link set veth0 netns $server_pid
run client direct sh -c 'ip link set lo up; ip addr add 10.9.0.1/24 dev client; ip link set client up'
run server app sh -c 'ip link set lo up; ip addr add 10.9.0.2/24 dev veth0; ip link set veth0 up'

run server app capitol-info --listen 0.0.0.0:8080 2>/tmp/app.log &
run server sidecar hoptrace-relay 2>/tmp/relay.log &
# wait_for WORD FILE: until a program says that it is ready.
wait_for() {
  for _ in $(seq 300); do
    grep -qs "$1" "$2" && return
    usleep 100000
  done
  fail "no \`$1\` within 30 s" "$2"
}
wait_for listens /tmp/app.log
wait_for listens /tmp/relay.log

# agent CAPABILITIES ARGUMENTS: starts one and waits until it serves; its process is $agent.
agent() {
  set=$1
  shift
  : >/tmp/agent.log
  as_nobody $set hoptrace agent --cgroup-root $mesh --listen 127.0.0.1:9465 "$@" >/tmp/agent.log 2>&1 &
  agent=$!
  for _ in $(seq 300); do
    grep -q 'serving /metrics' /tmp/agent.log && return
    kill -0 $agent 2>/dev/null || return 1
    usleep 100000
  done
  return 1
}
# With the least that it runs with, where the verifier is strictest.
least=+bpf,+net_admin
section least-doctor
(as_nobody $least hoptrace doctor --json)
section least
agent $least --read-hook off && kill $agent && wait $agent
# An old kernel's verifier has a lot to say.
tail -n 20 /tmp/agent.log

# With the programs that can log.
section logged
agent $capabilities --bpf-log debug --log debug || fail "the agent does not serve" /tmp/agent.log
run client direct hoptrace-load </direct.json >/tmp/load.log || fail "the load failed" /tmp/load.log
kill $agent
wait $agent
cat /tmp/agent.log

agent $capabilities || fail "the agent does not serve" /tmp/agent.log
scrape() { wget -q -O - http://127.0.0.1:9465/metrics; }
section direct
run client direct hoptrace-load </direct.json || fail "the load failed"
section relayed
run client relayed hoptrace-load </relayed.json || fail "the load failed"

# Settled once nothing is pending: what is told late is told two hold times late.
for _ in $(seq 100); do
  usleep 500000
  scrape >/tmp/metrics
  grep -q '^hoptrace_exchanges_pending 0$' /tmp/metrics && break
done
section metrics
grep -v -e '^#' -e '_bucket{' /tmp/metrics
section capabilities
grep Cap /proc/$agent/status
kill $agent
wait $agent
section agent
cat /tmp/agent.log
finish
