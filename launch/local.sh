#!/usr/bin/env bash
# Trains on this machine, and goes on after each stop that left a checkpoint.
#
#   launch/local.sh [flags] -- --config=FILE --workdir=W [further flags of launch/train.py]
#
#   --processes=N  N processes that train one model together (1); for CPUs, as one process drives
#                  all GPUs of a machine. When one fails, the others are ended.
#   --devices=N    N simulated CPU devices in each process.
#   --restarts=K   starts again up to K times (3) on exit code 75, which says that training was
#                  stopped and left a checkpoint.
#   --dry-run      prints the commands, and does nothing.
#   --help         prints this.
#
# SIGTERM and Ctrl-C are handed on as SIGTERM; the processes save a checkpoint, and the exit code is
# 75: the same command goes on. PYTHON in the environment names another interpreter. GLIBC_TUNABLES
# is set, where it is not, so that malloc asks for huge pages, which makes steps on CPUs faster.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/shell.sh
source "$here/shell.sh"

export GLIBC_TUNABLES=${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}

readonly restart_code=75 terminated_code=143
# Between a polite end and a hard one, for processes that wait for one that has failed.
readonly grace_seconds=30

processes=1 devices='' restarts=3
while (($# > 0)); do
  case $1 in
    --help) show_help "${BASH_SOURCE[0]}" && exit ;;
    --dry-run) dry_run=true ;;
    --processes=*) processes=$(whole_number "$1" 1) ;;
    --devices=*) devices=$(whole_number "$1" 1) ;;
    --restarts=*) restarts=$(whole_number "$1" 0) ;;
    --) shift && break ;;
    *) refuse "${1%%=*}" "'$1'" "--processes=N, --devices=N, --restarts=K, --dry-run or --help" \
      "write flags of launch/train.py after --" ;;
  esac
  shift
done
require_train_flags "$@"

command=()
if [[ -n $devices ]]; then
  command=(env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$devices")
fi
command+=("$(find_python "$here/..")" "$here/train.py")

free_port() {
  local port
  while true; do
    # Below the ports that the system gives to others by itself.
    port=$((20000 + RANDOM % 12000))
    if ! (: <"/dev/tcp/localhost/$port") 2>/dev/null; then
      printf '%d\n' "$port"
      return
    fi
  done
}

pids=() stopped=false
trap 'stopped=true' TERM INT

end_all() {
  local pid
  for pid in ${pids[@]+"${pids[@]}"}; do
    kill -s "$1" "$pid" 2>/dev/null || true
  done
}

start() {
  local port index own
  port=$(free_port)
  pids=()
  for ((index = 0; index < processes; index++)); do
    own=("${command[@]}")
    if ((processes > 1)); then
      own+=("--coordinator=localhost:$port" "--num_processes=$processes" "--process_id=$index")
    fi
    if [[ $dry_run == true ]]; then
      printf '%s%s\n' "$(quoted "${own[@]}" "$@")" "$( ((processes == 1)) || printf ' &')"
    else
      "${own[@]}" "$@" &
      pids+=($!)
    fi
  done
}

# Sets `code`: the first failure's, else 75 if a process was stopped, else 0.
wait_for_all() {
  local pid own running told=false deadline=''
  code=0
  while ((${#pids[@]} > 0)); do
    if [[ $stopped == true && $told == false ]]; then
      end_all TERM
      told=true
    fi
    running=()
    for pid in "${pids[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then
        running+=("$pid")
        continue
      fi
      own=0
      wait "$pid" || own=$?
      if [[ $stopped == true ]] && ((own == terminated_code)); then
        own=$restart_code # stopped before it listened
      fi
      if ((own == restart_code && code == 0)); then
        code=$restart_code
      elif ((own != 0 && own != restart_code)) && [[ -z $deadline ]]; then
        code=$own deadline=$((SECONDS + grace_seconds))
      fi
    done
    pids=(${running[@]+"${running[@]}"})
    if [[ -n $deadline ]]; then
      end_all "$( ((SECONDS < deadline)) && printf TERM || printf KILL)"
    fi
    sleep 0.2 || true # which Ctrl-C ends too
  done
}

if [[ $dry_run == true ]]; then
  start "$@"
  ((processes == 1)) || printf 'wait\n'
  exit
fi
for ((attempt = 0; ; attempt++)); do
  start "$@"
  wait_for_all
  if ((code != restart_code || attempt == restarts)) || [[ $stopped == true ]]; then
    exit "$code"
  fi
  printf 'Stopped with a checkpoint; start %d of %d.\n' "$((attempt + 2))" "$((restarts + 1))" >&2
done
