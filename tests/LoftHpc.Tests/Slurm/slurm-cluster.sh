#!/usr/bin/env bash
# A real Slurm of a few virtual nodes on this machine, for tests and by hand (make slurm-up, make slurm-down). It has its own
# munge key, configuration, ports and spool in one folder, touches nothing outside it, and ends only what runs on its nodes.
# Each processor of a node has a GPU beside it, by name only. Needs root, and slurmctld, slurmd, slurm-client and munge.
#   slurm-cluster.sh start FOLDER [NODES [CPUS_PER_NODE]]    prints the SLURM_CONF to export
#   slurm-cluster.sh up FOLDER                               the same for people; one that is up stays so
#   slurm-cluster.sh stop FOLDER                             ends jobs and daemons, removes the folder
#   slurm-cluster.sh freeze|kill|revive FOLDER NODE          a node answers no more; all on it is gone; it is back
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
action=${1:?start, up, stop, freeze, kill or revive}
folder=$(realpath -m "${2:?folder}")
nodes=${3:-2}
cpus=${4:-2}
export SLURM_CONF=$folder/slurm.conf

# Whether the process of a pid file is still the daemon that was started from this folder.
ours() {
    local pid
    pid=$(cat "$1" 2>/dev/null) && [[ -r /proc/$pid/cmdline ]] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$folder/"
}

# The processes of a virtual node, node daemon included: those in its namespace that were started with this configuration
# (the number of a namespace that is gone may be another's by now).
processes_of() {
    local space process
    space=$(cat "$folder/$1.uts" 2>/dev/null) || return 0
    for process in /proc/[0-9]*; do
        [[ $(readlink "$process/ns/uts" 2>/dev/null) == "$space" ]] || continue
        if tr '\0' '\n' 2>/dev/null <"$process/environ" | grep -qxF "SLURM_CONF=$SLURM_CONF"; then echo "${process#/proc/}"; fi
    done
}

signal_node() { # SIGNAL NODE
    local pids
    mapfile -t pids < <(processes_of "$2")
    ((${#pids[@]} == 0)) || kill "-$1" "${pids[@]}" 2>/dev/null || true
}

stop_daemon() {
    local pid
    ours "$1" || return 0
    pid=$(cat "$1")
    kill -TERM "$pid" 2>/dev/null || return 0
    for _ in {1..100}; do ours "$1" || return 0; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
}

stop() {
    local pid_file space
    [[ -d $folder ]] || return 0
    [[ -e $SLURM_CONF || -z $(ls -A "$folder") ]] || { echo "$folder is no folder of a test cluster" >&2; return 1; }
    if ours "$folder/slurmctld.pid"; then
        # Jobs first, so that no step outlives its node daemon.
        timeout 5 scancel --user "$(id -un)" 2>/dev/null || true
        for _ in {1..100}; do [[ -n $(timeout 5 squeue -h 2>/dev/null) ]] || break; sleep 0.1; done
    fi
    # A frozen node cannot end by itself.
    for space in "$folder"/*.uts; do [[ ! -e $space ]] || signal_node CONT "$(basename "$space" .uts)"; done
    for pid_file in "$folder"/slurmd.*.pid "$folder/slurmctld.pid" "$folder/munged.pid"; do stop_daemon "$pid_file"; done
    for space in "$folder"/*.uts; do [[ ! -e $space ]] || signal_node KILL "$(basename "$space" .uts)"; done
    rm -rf "$folder"
}

# Every node in a host name and /etc/hosts of its own: Open MPI names its shared memory by host and local rank, so that ranks
# of two nodes of one name would write into each other's.
start_node() { # NODE
    mkdir -p "$folder/spool.$1" "$folder/tmp.$1"
    unshare --uts --mount --propagation slave bash -euc \
        'hostname "$0"; mount --bind "$1/hosts" /etc/hosts; readlink /proc/self/ns/uts >"$1/$0.uts"; exec slurmd -f "$1/slurm.conf" -N "$0"' \
        "$1" "$folder" </dev/null >"$folder/log/slurmd.$1.out" 2>&1
}

free_port() { # the first of a run of free ports from $1 on
    local port=$1 i
    for (( ; port < 60000; port += nodes + 1)); do
        for ((i = 0; i <= nodes; i++)); do
            (exec 3<>"/dev/tcp/127.0.0.1/$((port + i))") 2>/dev/null && continue 2
        done
        echo "$port"
        return
    done
    echo "no free ports" >&2
    return 1
}

start() {
    local host port i
    host=$(hostname -s)
    port=$(free_port $((20000 + $$ % 10000)))
    umask 022
    mkdir -p "$folder"/{state,log}
    install -m 0700 -d "$folder/munge"
    head -c 1024 /dev/urandom >"$folder/munge/key"
    chmod 0400 "$folder/munge/key"

    cat >"$SLURM_CONF" <<CONF
ClusterName=lofthpc
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
# With the default of 120 s a requeued job would start only that much later.
AuthInfo=socket=$folder/munge.socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
# The pmix plug-in makes its folders here; the nodes must not share them.
TmpFS=$folder/tmp.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobs
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
KillWait=5
# Finished jobs can be asked for as long as tests run.
MinJobAge=3600
# A node that does not answer for so long is down.
SlurmdTimeout=30
MailProg=/bin/true
ReturnToService=2
# Virtual nodes claim more processors together than the machine has.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1))-$((port + nodes)) CPUs=$cpus Gres=gpu:$cpus State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=60 State=UP
CONF
    echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf"
    echo "Name=gpu File=$folder/gpu[0-$((cpus - 1))]" >"$folder/gres.conf"
    for ((i = 0; i < cpus; i++)); do ln -s /dev/null "$folder/gpu$i"; done

    munged --socket="$folder/munge.socket" --key-file="$folder/munge/key" --log-file="$folder/munge/log" \
        --pid-file="$folder/munged.pid" --seed-file="$folder/munge/seed" </dev/null >"$folder/log/munged.out" 2>&1
    slurmctld -f "$SLURM_CONF" </dev/null >"$folder/log/slurmctld.out" 2>&1

    { cat /etc/hosts; for ((i = 1; i <= nodes; i++)); do echo "127.0.0.1 n$i"; done; } >"$folder/hosts"
    for ((i = 1; i <= nodes; i++)); do
        start_node "n$i"
    done

    for _ in {1..300}; do
        if (($(sinfo -h -N -o %t 2>/dev/null | grep -c '^idle$') == nodes)); then
            echo "$SLURM_CONF"
            return 0
        fi
        sleep 0.1
    done
    echo "the nodes did not come up" >&2
    tail -n 5 "$folder"/log/* >&2
    return 1
}

case $action in
    start)
        stop
        start || { stop; exit 1; }
        ;;
    up)
        if ! ours "$folder/slurmctld.pid" || [[ -z $(timeout 5 sinfo -h 2>/dev/null) ]]; then
            ((EUID == 0)) || { echo "a test cluster is started as root only" >&2; exit 2; }
            stop
            start >/dev/null || { stop; exit 1; }
        fi
        cat <<TEXT
A Slurm of $nodes nodes of $cpus processors each is up. In a shell:
  export SLURM_CONF=$SLURM_CONF
  make submit NODES=2 TASKS=2 ARGS=pretrain.epochs=1
  squeue; tail -f lofthpc-*.log
make slurm-down ends it.
TEXT
        ;;
    stop) stop ;;
    freeze) signal_node STOP "${3:?node}" ;;
    kill) signal_node KILL "${3:?node}" ;;
    revive)
        # As one without disks: a socket of PMIx that was left would keep the same job from starting there again.
        rm -rf "$folder/spool.${3:?node}" "$folder/tmp.$3"
        start_node "$3"
        ;;
    *) echo "start, up, stop, freeze, kill or revive, not $action" >&2; exit 2 ;;
esac
