# shellcheck shell=bash disable=SC2034 # used by those who source it
# Where the cluster keeps its files and what its parts are called; sourced by the scripts beside it.
# Everything can be set from the environment. Two clusters on one machine need more than other names: one
# network namespace and one cgroup each.
: "${K8S_HOME:=${XDG_CACHE_HOME:-$HOME/.cache}/knit-cluster}" # programs and images; built once
: "${K8S_BIN:=$K8S_HOME/bin}"
: "${K8S_IMAGES:=$K8S_HOME/images}"
: "${K8S_STATE:=$K8S_HOME/state}" # certificates, etcd's data, kubelet's root, logs, pid files
: "${K8S_RUN:=/run/k8s-local}"    # sockets: their paths must be short
: "${NODE_NAME:=node1}"
: "${NODE_BRIDGE:=kn0}"
: "${NODE_IP:=10.99.0.1}" # on a bridge of its own: nothing listens on an address that others can reach
: "${POD_CIDR:=10.244.0.0/24}"
: "${SERVICE_CIDR:=10.96.0.0/16}"
: "${API_SERVICE_IP:=10.96.0.1}"
: "${DNS_IP:=10.96.0.10}"
: "${ETCD_PORT:=23790}" # and the one after it
: "${API_PORT:=6443}"
: "${SNAPSHOTTER:=overlayfs}"
: "${IPTABLES:=nft}" # or legacy

# What `build` makes, in the order of how much of the others each brings along.
K8S_PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
K8S_VERSION=v1.20.2

PKI=$K8S_STATE/pki
LOGS=$K8S_STATE/log
PIDS=$K8S_STATE/pids
CONFIG=$K8S_STATE/conf
CONTAINERD=$K8S_RUN/containerd.sock
ADMIN=$CONFIG/admin.kubeconfig
export PATH=$K8S_STATE/shim:$K8S_BIN:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

kubectl() { "$K8S_BIN/kubectl" --kubeconfig "$ADMIN" --request-timeout=30s "$@"; }
ctr() { timeout 120 ctr --address "$CONTAINERD" --namespace k8s.io "$@"; }

fail() {
    printf 'tests/cluster: %s\n' "$*" >&2
    exit 1
}

# Ends with what tests/run takes for "cannot be tried here".
skip() {
    printf 'SKIPPED cluster: %s\n' "$*" >&2
    exit 77
}

# One at a time: held until this script ends, and not by what it starts (see `start`).
lock() {
    mkdir -p "$K8S_HOME"
    exec 9>"$K8S_HOME/$1.lock"
    flock --timeout 1800 9 || fail "another process holds $K8S_HOME/$1.lock for half an hour"
}
