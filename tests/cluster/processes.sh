# shellcheck shell=bash
# Processes that outlive the script that starts them, known by number and time of start: a number alone may have
# been given to another process since. Sourced after settings.sh.

# The time of start of a process whose name holds no blank; nothing for one that has ended, though its parent, the
# first process of a container perhaps, never asks how.
started_at() { awk '$3 != "Z" {print $22}' "/proc/$1/stat" 2>/dev/null; }

# alive NAME
alive() {
    local pid start
    read -r pid start 2>/dev/null <"$PIDS/$1.pid" || return 1
    [[ -n $start && $(started_at "$pid") == "$start" ]]
}

# start NAME COMMAND...: nothing to do when it runs.
start() {
    local name=$1
    shift
    if alive "$name"; then return; fi
    rm -f "$PIDS/$name.pid"
    # The process notes itself before it becomes the program, so that it is known whenever this script is killed.
    # shellcheck disable=SC2016 # expanded by the inner shell
    setsid --fork sh -c '
        echo "$$ $(awk "{print \$22}" "/proc/$$/stat")" >"$0.new" && mv "$0.new" "$0" && exec "$@"
    ' "$PIDS/$name.pid" "$@" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&-
    wait_for 10 "the start of $name" test -s "$PIDS/$name.pid"
}

# stop NAME [SECONDS]: politely, then at once.
stop() {
    local name=$1 patience=${2-10} pid start
    if alive "$name"; then
        read -r pid start <"$PIDS/$name.pid"
        kill -TERM "$pid" 2>/dev/null || true
        if ! wait_for "$patience" "the end of $name" gone "$name" 2>/dev/null; then
            kill -KILL "$pid" 2>/dev/null || true
            wait_for 10 "the end of $name after SIGKILL" gone "$name" || true
        fi
    fi
    rm -f "$PIDS/$name.pid"
}

gone() { ! alive "$1"; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= end)); then
            printf 'tests/cluster: still waiting for %s\n' "$what" >&2
            return 1
        fi
        sleep 0.2
    done
}
