# shellcheck shell=bash
# Sourced by the SLURM jobs: runs one step, and knows why it ended.
#
# SLURM tells a job that its time ends in three ways:
#   * preemption, `scontrol requeue` and `scancel` send SIGTERM to every process, then SIGKILL after KillWait or the
#     partition's GraceTime. Training saves; SLURM itself queues the job again, or not.
#   * --signal=B:USR1@SECONDS sends SIGUSR1 to the batch script alone, before the time limit (and before preemption,
#     where the cluster has PreemptParameters=send_user_signal). The script hands it on as SIGTERM and requeues.
#   * a lost node: SLURM queues a job with --requeue again.

# shellcheck disable=SC2034 # the jobs read both
time_ends=no sent_away=no # set by SIGUSR1 and by SIGTERM

# The value of --NAME=VALUE among the words that follow; the last one counts.
flag_value() {
  local name=$1 value='' word
  shift
  for word in "$@"; do
    case $word in --"$name"=*) value=${word#*=} ;; esac
  done
  printf '%s' "$value"
}

# Runs a command as the job's step, one process per task, and returns its exit status.
run_step() {
  trap 'time_ends=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1 # reaches the tasks, not this script
  trap 'sent_away=yes' TERM                                      # the tasks have had it, too
  # srun does not take this from sbatch by itself.
  [[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  srun --kill-on-bad-exit=1 "$@" &
  local step=$!
  while kill -0 "$step" 2>/dev/null; do wait "$step"; done # a signal ends `wait` early
  wait "$step"
}

requeue() {
  echo "$1; queued again as job $SLURM_JOB_ID"
  scontrol requeue "$SLURM_JOB_ID"
}
