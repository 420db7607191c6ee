# What a site changes. Copy this file to slurm/profile.sh, which git ignores, or name another one by LOFTHPC_PROFILE.
# slurm/run.sbatch reads it on the job's first node, and make submit and slurm/chain.sh read it where they submit. For a bare sbatch:
#   source slurm/profile.sh; sbatch slurm/run.sbatch ...

# Where jobs go: sbatch reads these as --account, --partition and so on, and they win over the scripts' #SBATCH lines.
#export SBATCH_ACCOUNT=project123
#export SBATCH_PARTITION=gpu
#export SBATCH_QOS=normal
#export SBATCH_TIMELIMIT=08:00:00

# Modules that the program needs: an MPI, on an old system a newer GCC, CUDA.
#module purge
#module load gcc/13 openmpi/5

# openmpi or mpich (MPICH, Intel MPI, Cray, MVAPICH). Without it, the family of the mpiexec on PATH.
#LOFTHPC_MPI=mpich

# More options for srun, which win over those of run.sbatch:
# MPICH where srun has only PMIx
#LOFTHPC_SRUN_OPTIONS="--mpi=pmix"
# all GPUs of the node seen by each rank, for CUDA-aware MPI that reaches into a neighbour's; the ranks share them out themselves
#LOFTHPC_SRUN_OPTIONS="--gpu-bind=none"
# nodes whose GPUs are not numbered as their cores are: which cores lie near the GPU of the first rank, of the second, ...
#LOFTHPC_SRUN_OPTIONS="--cpu-bind=mask_cpu:ff000000,ff0000,ff00,ff"

# Between nodes that have more than one network, the one to take:
#export UCX_NET_DEVICES=mlx5_0:1
