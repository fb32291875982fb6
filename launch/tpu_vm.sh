#!/usr/bin/env bash
# Runs on every host of a Cloud TPU VM or pod slice; from the repository's root:
#
#   launch/tpu_vm.sh setup NAME ZONE                 copies this revision there and installs it
#   launch/tpu_vm.sh train NAME ZONE FLAGS           the training command's own flags; --workdir on a folder all hosts see
#   launch/tpu_vm.sh evaluate NAME ZONE FLAGS        the evaluation command's own flags
#   launch/tpu_vm.sh stop  NAME ZONE                 training saves and ends, an evaluation ends
#
# `train` again goes on from the newest checkpoint. Arguments for gcloud, such as --project=ID, stand in GCLOUD_FLAGS.
set -euo pipefail

usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

(($# >= 3)) || usage
action=$1 name=$2 zone=$3
shift 3
read -ra gcloud_flags <<<"${GCLOUD_FLAGS:-}"

everywhere() {
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all "${gcloud_flags[@]}" --command="$1"
}

case $action in
setup)
  archive=$(mktemp --suffix=.tar.gz)
  trap 'rm -f "$archive"' EXIT
  git archive --format=tar.gz --output="$archive" HEAD
  gcloud compute tpus tpu-vm scp "$archive" "$name:robustdepth.tar.gz" --zone="$zone" --worker=all "${gcloud_flags[@]}"
  everywhere 'rm -rf robustdepth && mkdir robustdepth && tar -xzf robustdepth.tar.gz -C robustdepth && cd robustdepth &&
    python3 -m venv .venv && .venv/bin/pip install --quiet -c constraints.txt -e ".[tpu]"'
  ;;
train | evaluate)
  (($# >= 1)) || usage
  [[ $action == train ]] && word='' || word='evaluate '
  printf -v flags '%q ' "$@" # as one line for the shell on the other side
  everywhere "cd robustdepth && PYTHON=.venv/bin/python launch/local.sh $word--distributed=tpu $flags"
  ;;
stop)
  everywhere "pkill -TERM --full 'robustdepth[.](train|evaluate)' || true"
  ;;
*) usage ;;
esac
