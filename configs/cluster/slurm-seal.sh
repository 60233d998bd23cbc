#!/bin/bash
# Joins what slurm-build.sh built, and verifies it: fails when anything is missing, and names it.
#
#   sbatch --dependency=afterok:JOB slurm-seal.sh CACHE
#
#SBATCH --job-name=potstill-seal
set -eu
${POTSTILL:-potstill} cache seal "$1"
${POTSTILL:-potstill} cache verify "$1"
