#!/bin/bash
# L3-Net on 2 nodes with 8 GPUs each: sbatch training/slurm.sh, from the checkout.
#
# It resumes by itself: shortly before the time limit the training gets SIGTERM, writes a checkpoint and ends; the job
# is queued again and the same command goes on from RUN's checkpoint. After a node failed it goes on from the last one.
# DATA and RUN must be on a file system that all nodes see. Without a requeue: call sbatch again.

#SBATCH --job-name=openavc
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1          # torchrun, which starts a process for each GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=72           # 8 processes and the 8 loader workers of each
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300          # to this script, 300 s before the limit
#SBATCH --requeue
#SBATCH --open-mode=append           # one log for all the turns
#SBATCH --output=%x-%j.log

set -u
CONFIG=${CONFIG:-training/configs/l3_flickr.toml}
DATA=${DATA:-shards/flickr}
RUN=${RUN:-runs/l3_flickr}

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=1

out_of_time=
# torchrun passes SIGTERM on and kills what is still there after 30 s: a step and a checkpoint must fit in.
trap 'out_of_time=yes; scancel --signal=TERM "$SLURM_JOB_ID.0"' USR1 # step 0: the srun below

srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node 8 \
    --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" \
    -m training.train "$CONFIG" --data "$DATA" --output "$RUN" &
step=$!
wait "$step" # a signal ends this wait; the next one is for the checkpoint
status=$?
if [ -n "$out_of_time" ]; then
    wait "$step"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
