#!/usr/bin/env bash
# Trains on this machine with the training command's own flags, or evaluates with those of the evaluation; from the
# repository's root:
#
#   launch/local.sh --config=configs/world_quickstart.py --workdir=runs/quickstart [--config.batch_size=16 ...]
#   launch/local.sh evaluate --workdir=runs/quickstart --protocols=world --output=runs/quickstart/eval
#
# SIGTERM and SIGINT are passed on, so that training saves and ends. The exit status is 0 only once the run is finished,
# 75 where it was stopped before: whoever started this may start it again.
# PROCESSES=2 starts that many processes on the CPU or, each with its own, on the first GPUs; one process uses them all.
set -uo pipefail

python=${PYTHON:-python}
processes=${PROCESSES:-1}
port=${PORT:-55527}
stopped_early=75 # EX_TEMPFAIL of sysexits.h

command=train
if [[ ${1:-} == evaluate ]]; then
  command=evaluate
  shift
fi
workdir=
for flag in "$@"; do
  case $flag in --workdir=*) workdir=${flag#--workdir=} ;; esac
done
if [[ -z $workdir && $command == train ]]; then
  echo "error: no --workdir=DIR among the flags; give the training command's flags to $0." >&2
  exit 2
fi
if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
  echo "error: PROCESSES=$processes is not a number of processes; use 1 or more." >&2
  exit 2
fi

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM INT

if ((processes == 1)); then
  "$python" -m "robustdepth.$command" "$@" &
  pids=($!)
else
  for ((i = 0; i < processes; i++)); do
    CUDA_VISIBLE_DEVICES=$i "$python" -m "robustdepth.$command" "$@" --distributed=explicit \
      --coordinator="localhost:$port" --processes="$processes" --process="$i" &
    pids+=($!)
  done
fi

status=0
for pid in "${pids[@]}"; do
  while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done # a signal ends `wait` early
  wait "$pid" || status=$?
done
if ((status == 0)) && [[ $command == train && ! -e $workdir/finished ]]; then
  exit "$stopped_early"
fi
exit "$status"
