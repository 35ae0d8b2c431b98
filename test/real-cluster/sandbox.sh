#!/bin/sh
# Process 1 of the test cluster's namespaces (network, mounts, processes, IPC; see sandbox.ts): makes a machine room of
# them that the real machine neither sees nor can be harmed by, says so on descriptor 3, and waits. When it ends,
# everything ends.
#
# usage: sandbox.sh INIT ADDRESS NODES
#   INIT     a program that reaps orphans until it is told to end
#   ADDRESS  of the API server
#   NODES    a file with a line per node: NAME ADDRESS PODS, the name of its namespaces (network and mounts), its own
#            address and the network of its pods. Each hangs on a cable of its own; nothing leads anywhere else. Beside
#            it, NODES.NAME gets the number of a process that is in the node's namespaces.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
init=$1 address=$2 nodes=$3

# Programs write to fixed places; what they write there is in memory and gone with the cluster.
ownPlaces='mount -t tmpfs -o mode=755 tessellate-run /run
for place in /var/lib /var/log; do
  layer=/run/layers$place
  mkdir -p "$layer/upper" "$layer/work"
  mount -t overlay -o "lowerdir=$place,upperdir=$layer/upper,workdir=$layer/work" tessellate-layer "$place"
done'

mount -t proc proc /proc
mount -t tmpfs -o mode=755 tessellate-run /run

# Images unpacked three times are a hundred thousand files: in memory they come and go many times faster than on a disk.
stores=${nodes%/*}/stores
mkdir "$stores"
if [ "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)" -gt $((6 << 20)) ]; then
  mount -t tmpfs tessellate-stores "$stores"
fi

ip link set lo up
ip address add "$address/32" dev lo
echo 1 >/proc/sys/net/ipv4/ip_forward
while read -r name nodeAddress pods; do
  ip netns add "$name"
  ip link add "$name" type veth peer name eth0 netns "$name"
  ip link set "$name" up
  ip -n "$name" link set lo up
  ip -n "$name" address add "$nodeAddress/32" dev eth0
  ip -n "$name" link set eth0 up
  ip -n "$name" route add "$address" dev eth0
  ip -n "$name" route add default via "$address"
  ip netns exec "$name" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
  # Kubelets meet their plugins at places that cannot be chosen, so each sees others of its own; a process holds them.
  nsenter --net="/run/netns/$name" unshare --mount --propagation private \
    sh -euc "$ownPlaces
      echo \$\$ >'$nodes.$name.unfinished'
      mv '$nodes.$name.unfinished' '$nodes.$name'
      exec '$init'" 3>&- &
  until [ -e "$nodes.$name" ]; do
    kill -0 $!
    sleep 0.02
  done
  ip route add "$nodeAddress" dev "$name" src "$address"
  ip route add "$pods" via "$nodeAddress" dev "$name" src "$address" onlink
done <"$nodes"

echo ready >&3
exec 3>&-
exec "$init"
