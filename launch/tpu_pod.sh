#!/usr/bin/env bash
# Trains on a Cloud TPU slice, one process on each of its machines.
#
#   launch/tpu_pod.sh --mode=queued --name=NAME --type=v6e-16 --zone=ZONE [flags] -- \
#     --config=FILE --workdir=W
#   launch/tpu_pod.sh --mode=gke --name=NAME --type=tpu7x-16 --zone=ZONE --cluster=CLUSTER \
#     --image=IMAGE [flags] -- --config=FILE --workdir=W
#
#   --mode=queued    asks for the slice as a queued resource, waits until it is there, copies the
#                    committed code to all its machines, installs it and trains over ssh. The Cloud
#                    TPU API, which this needs, serves TPUs up to v6e; TPU7x and later ones are
#                    refused and want --mode=gke.
#   --mode=gke       hands a workload to a GKE cluster that exists and has node pools of this type,
#                    by `xpk workload create`.
#   --name=NAME      of the slice, or of the workload.
#   --type=TYPE      of the slice, such as v4-32, v5litepod-16, v5p-8, v6e-16 or tpu7x-16.
#   --zone=ZONE
#   --project=P      gcloud's own without it.
#   --restarts=K     starts again up to K times (3) on exit code 75, which says that training was
#                    stopped and left a checkpoint. With gke also after a lost machine.
#   --dry-run        prints the commands, and does nothing.
#   --help           prints this.
#
# With --mode=queued:
#   --runtime=V      the software of the machines; by default the one for JAX on this type.
#   --spot           a slice that may be taken away, for less.
#   --prepare=CMD    a shell command for each machine before it trains, to mount --workdir say.
#   --poll=SECONDS   between two looks at the queue (30).
#
# With --mode=gke:
#   --cluster=C      the cluster.
#   --image=IMAGE    a base image with Python and the package's dependencies; the code of this
#                    folder goes on top of it.
#
# --workdir is gs://BUCKET/FOLDER, for which the machines' service account needs to read, write and
# delete objects (with gke the image needs the extra cloud), or a folder that all machines share and
# that outlives them, such as a Filestore share. Nothing is deleted in the end, and a slice costs
# until you do:
#
#   gcloud compute tpus queued-resources delete NAME --zone=ZONE --force

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/shell.sh
source "$here/shell.sh"

readonly restart_code=75 folder=mmdiffusion_jax
# Time to finish a step and save a checkpoint.
readonly grace_seconds=300

mode='' name='' type='' zone='' project='' restarts=3
runtime='' spot='' prepare='' poll='' cluster='' image=''
while (($# > 0)); do
  case $1 in
    --help) show_help "${BASH_SOURCE[0]}" && exit ;;
    --dry-run) dry_run=true ;;
    --mode=*) mode=${1#*=} ;;
    --name=*) name=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --restarts=*) restarts=$(whole_number "$1" 0) ;;
    --runtime=*) runtime=${1#*=} ;;
    --spot) spot=--spot ;;
    --prepare=*) prepare=${1#*=} ;;
    --poll=*) poll=$(whole_number "$1" 1) ;;
    --cluster=*) cluster=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --) shift && break ;;
    *) refuse "${1%%=*}" "'$1'" "one of the flags that --help lists" \
      "write flags of launch/train.py after --" ;;
  esac
  shift
done

require() {
  [[ -n $2 ]] || refuse "--$1" nothing "$3" "add --$1=…"
}
leave_out() {
  [[ -z $2 ]] || refuse "--$1" "'$2'" "nothing with --mode=$mode" "leave it out"
}
require mode "$mode" "queued or gke"
require name "$name" "a name for the slice or the workload"
require type "$type" "a type of TPU, such as v6e-16"
require zone "$zone" "the zone of the TPUs"
case $mode in
  queued)
    leave_out cluster "$cluster"
    leave_out image "$image"
    case $type in
      v6e-*) default_runtime=v2-alpha-tpuv6e ;;
      v5p-*) default_runtime=v2-alpha-tpuv5 ;;
      v5litepod-*) default_runtime=v2-alpha-tpuv5-lite ;;
      v2-* | v3-* | v4-*) default_runtime=tpu-ubuntu2204-base ;;
      *) refuse --type "'$type'" \
        "v2-, v3-, v4-, v5litepod-, v5p- or v6e-, which the Cloud TPU API serves" \
        "use --mode=gke for TPU7x and later" ;;
    esac
    ;;
  gke)
    leave_out runtime "$runtime"
    leave_out spot "$spot"
    leave_out prepare "$prepare"
    leave_out poll "$poll"
    require cluster "$cluster" "the name of the GKE cluster"
    require image "$image" "a base image with Python and the dependencies"
    ;;
  *) refuse --mode "'$mode'" "queued or gke" "use one of these" ;;
esac
require_train_flags "$@"
extra=train
for argument in "$@"; do
  if [[ $argument == --workdir=gs://* || $argument == gs://* ]]; then
    extra=cloud
  fi
done

where=("--zone=$zone" ${project:+"--project=$project"})

if [[ $mode == gke ]]; then
  run xpk workload create "--workload=$name" "--cluster=$cluster" "${where[@]}" \
    "--tpu-type=$type" "--base-docker-image=$image" "--script-dir=$(dirname "$here")" \
    "--max-restarts=$restarts" "--restart-on-exit-codes=$restart_code" \
    "--termination-grace-period-seconds=$grace_seconds" \
    "--command=$(quoted env PYTHONPATH=. python3 launch/train.py "$@")"
  exit
fi

queue=(gcloud compute tpus queued-resources)

on_all() {
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all "--command=$1"
}

state() {
  "${queue[@]}" describe "$name" "${where[@]}" '--format=value(state.state)' 2>/dev/null || true
}

create() {
  run "${queue[@]}" create "$name" "--node-id=$name" "${where[@]}" "--accelerator-type=$type" \
    "--runtime-version=${runtime:-$default_runtime}" ${spot:+"$spot"}
}

# A slice of this name that is there, or queued, is taken as it is: the same command goes on.
if [[ $dry_run == true ]]; then
  create
  printf '# until it prints ACTIVE:\n'
  run "${queue[@]}" describe "$name" "${where[@]}" '--format=value(state.state)'
else
  now=$(state)
  if [[ -z $now ]]; then
    create
  fi
  until [[ $now == ACTIVE ]]; do
    case $now in
      FAILED | SUSPENDING | SUSPENDED | DELETING)
        refuse --name "$name, which is $now" "a queued resource that becomes ACTIVE" \
          "run $(quoted "${queue[@]}" delete "$name" "${where[@]}" --force), then this again"
        ;;
    esac
    printf 'The slice is %s.\n' "${now:-asked for}" >&2
    sleep "${poll:-30}"
    now=$(state)
  done
fi

archive=${TMPDIR:-/tmp}/$name.tar.gz
run git -C "$here/.." archive --format=tar.gz "--output=$archive" HEAD
run gcloud compute tpus tpu-vm scp "$archive" "$name:$folder.tar.gz" "${where[@]}" --worker=all
# The machines may come with an older Python than the package needs; uv brings one.
on_all "mkdir -p $folder && tar -xzf $folder.tar.gz -C $folder && cd $folder && \
python3 -m pip install --quiet --user uv && \
{ [ -d .venv ] || python3 -m uv venv --quiet --python=3.12 .venv; } && \
python3 -m uv pip install --quiet --python=.venv --constraint=constraints.txt --editable=.[$extra] \
'jax[tpu]'"
if [[ -n $prepare ]]; then
  on_all "$prepare"
fi

training="cd $folder && $(quoted .venv/bin/python launch/train.py "$@")"
for ((attempt = 0; ; attempt++)); do
  code=0
  on_all "$training" || code=$?
  if ((code != restart_code || attempt == restarts)); then
    exit "$code"
  fi
  printf 'Stopped with a checkpoint; start %d of %d.\n' "$((attempt + 2))" "$((restarts + 1))" >&2
done
