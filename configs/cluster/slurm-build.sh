#!/bin/bash
# Builds a recipe's cache as a Slurm array: every task a part of it, on a file system that all nodes see.
#
#   job=$(sbatch --parsable --array=0-7 slurm-build.sh recipe.json)
#   sbatch --dependency=afterok:$job slurm-seal.sh CACHE
#
# The number of tasks is yours, and they may run at once, by and by (--array=0-7%2) or again: what is there is kept. Each
# has its share of every teacher's predictions; latents and text are completed by whichever task finds them missing. A task
# that is preempted or reaches its time limit keeps every finished shard: requeue it, or submit the array again.
#
#SBATCH --job-name=potstill-build
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes to end in order, at the time limit; to this script's process itself, which potstill takes over.
#SBATCH --signal=B:TERM@120
set -eu
exec ${POTSTILL:-potstill} cache build "$@"
