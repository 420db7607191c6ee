# LoftHpc. "make help" lists the targets; only make and the .NET 10 SDK are taken as given.
SHELL := /bin/bash
.DEFAULT_GOAL := help

RANKS ?= 2
# The kind of build: cpu, cuda, or external (libtorch 2.10 or newer from the folder LIBTORCH, or from LD_LIBRARY_PATH at run time).
DEVICE ?= $(if $(LIBTORCH),external,cpu)
LIBTORCH ?=
# 1: dist/ brings the .NET runtime with it, for nodes without .NET.
SELF_CONTAINED ?=
# More section.key=value arguments for a run.
ARGS ?=
# The config that "make plan" plans and "make submit" runs.
CONFIG ?= configs/quick.yaml
# Tests whose full name holds this text; empty: all.
FILTER ?=
# Inputs of each format that "make fuzz" tries (10000), the number of the first one, and the format alone that is tried; empty: all.
# Of "make soak": how many kills (200), and the seed of their moments.
COUNT ?=
SEED ?= 1
FORMAT ?=
# make submit: nodes, ranks of each (without it as many as GPUS, else 2), GPUs of each (none), more options for sbatch; then at most one
# of an array over seeds (1-3), an array over the lines of a file, and the ratios of tickets from one pre-training (0.5,0.8).
NODES ?= 1
TASKS ?=
GPUS ?=
OPTIONS ?=
SEEDS ?=
LIST ?=
RATIOS ?=
# make compare: the file of its runs; where they go, their SEEDS (1,2) and the baseline, where not as the file says.
SWEEP ?= configs/compare/sweep.yaml
COMPARE ?=
BASELINE ?=
# The test cluster of make slurm-up.
SLURM_FOLDER ?= /tmp/lofthpc-slurm
export RANKS DEVICE LIBTORCH SELF_CONTAINED FILTER

# Waiting OpenMP threads sleep, so that ranks do not slow one another down.
export OMP_WAIT_POLICY ?= PASSIVE
export DOTNET_CLI_TELEMETRY_OPTOUT ?= 1
export DOTNET_NOLOGO ?= 1
export DOTNET_CLI_UI_LANGUAGE := en
# The SDK then needs no ICU library, which a minimal system lacks.
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT := 1

# An SDK that is not on PATH, in the usual places.
ifeq ($(shell command -v dotnet),)
  DOTNET_FOUND := $(firstword $(wildcard $(DOTNET_ROOT)/dotnet $(HOME)/.dotnet/dotnet /usr/share/dotnet/dotnet /usr/lib/dotnet/dotnet /opt/dotnet/dotnet))
  ifneq ($(DOTNET_FOUND),)
    export DOTNET_ROOT := $(patsubst %/,%,$(dir $(DOTNET_FOUND)))
    export PATH := $(DOTNET_ROOT):$(PATH)
  endif
endif

.PHONY: help run run-loft compare plan comm-table submit test fuzz soak slurm-up slurm-down slurm-check build bundle gpu-check setup data cifar10 cifar100 bench format clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo "Variables: RANKS=2 and ARGS="section.key=value ..." (run, run-loft, compare, plan), SWEEP=file COMPARE=folder SEEDS=1,2 BASELINE=name (compare; docs/comparing.md), CONFIG=file (plan, submit), FILTER=text (test), NODES TASKS GPUS OPTIONS SEEDS LIST RATIOS (submit; docs/slurm.md), DEVICE=cpu|cuda|external, LIBTORCH=folder, SELF_CONTAINED=1 (build, run)"

run: build ## pre-train, prune and retrain a small network on Fashion-MNIST: configs/quick.yaml on 2 ranks
	@build/run.sh configs/quick.yaml $(ARGS)

run-loft: build ## the same by LoFT: configs/quick-loft.yaml
	@build/run.sh configs/quick-loft.yaml $(ARGS)

compare: build ## every method, 2 and 4 ranks, 3 seeds: results/compare/comparison.csv; goes on after a stop
	@dist/lofthpc sweep "$(SWEEP)" $(if $(COMPARE),--folder "$(COMPARE)") $(if $(SEEDS),--seeds "$(SEEDS)") $(if $(BASELINE),--baseline "$(BASELINE)") $(ARGS)

test: ## install what the tests need, build, run every test
	@build/setup.sh test
	@build/test.sh

submit: ## hand CONFIG to Slurm: NODES=1 TASKS=2 GPUS= ARGS="section.key=value ..."; SEEDS=1-3, LIST=file or RATIOS=0.5,0.8 for many
	@CONFIG="$(CONFIG)" NODES="$(NODES)" TASKS="$(TASKS)" GPUS="$(GPUS)" OPTIONS="$(OPTIONS)" SEEDS="$(SEEDS)" LIST="$(LIST)" RATIOS="$(RATIOS)" slurm/submit.sh $(ARGS)

slurm-up: ## start a Slurm of two virtual nodes on this machine, to try jobs with (root); it touches nothing outside SLURM_FOLDER
	@build/setup.sh test
	@tests/LoftHpc.Tests/Slurm/slurm-cluster.sh up "$(SLURM_FOLDER)"

slurm-down: ## end it, and its jobs
	@tests/LoftHpc.Tests/Slurm/slurm-cluster.sh stop "$(SLURM_FOLDER)"

slurm-check: ## the tests of Slurm with those that wait for time limits and nodes that go down, under both MPI families
	@build/setup.sh test
	@LOFTHPC_TEST_LARGE=1 FILTER=Slurm build/test.sh

fuzz: setup ## try COUNT mutated inputs of each format that is read: 10000, in a quarter of an hour
	@build/fuzz.sh $(or $(COUNT),10000) $(SEED) $(FORMAT)

soak: build ## kill ranks of small runs of every method COUNT times, and go on with each to the end: 200, in a quarter of an hour
	@build/soak.sh $(or $(COUNT),200) $(SEED)

build: setup ## build dist/lofthpc, the program: mpiexec -n 4 dist/lofthpc run --config FILE
	@build/publish.sh

bundle: ## pack dist/lofthpc-bundle.tar.xz, which proves a GPU machine that has PyTorch and mpiexec, but neither .NET nor network
	@build/setup.sh bundle
	@build/bundle.sh

gpu-check: bundle ## unpack the bundle and prove this machine with it, on its GPUs or its CPU
	@build/setup.sh run
	@rm -rf dist/lofthpc-bundle.try && mkdir dist/lofthpc-bundle.try && tar -C dist/lofthpc-bundle.try -xf dist/lofthpc-bundle.tar.xz
	@dist/lofthpc-bundle.try/lofthpc-bundle/gpu-check.sh $(ARGS) results/gpu-check

setup: ## install what a run needs: an MPI, Fashion-MNIST
	@build/setup.sh run

data: ## Fashion-MNIST alone, into .data/ (no root needed)
	@build/setup.sh data

cifar10: ## fetch and check CIFAR-10 (needs internet)
	@build/fetch-cifar.sh cifar10

cifar100: ## fetch and check CIFAR-100 (needs internet)
	@build/fetch-cifar.sh cifar100

plan: ## say what the pre-training of CONFIG costs on 1, 2 and 4 ranks: FLOPs, memory, communication
	@build/publish.sh
	@dist/lofthpc plan --config $(CONFIG) $(ARGS)

comm-table: build ## print LoFT's published communication table beside a model of it and our exchange, planned and measured
	@dist/lofthpc comm-table
	@build/launch.sh 2 dist/lofthpc comm-table
	@build/launch.sh 4 dist/lofthpc comm-table

bench: ## measure the table of ratios of docs/speed.md
	@build/setup.sh bench
	@build/bench.sh

format: ## format the code
	@dotnet format LoftHpc.sln

clean: ## remove what was built, but for dist/
	@find src tests -type d \( -name bin -o -name obj \) -prune -exec rm -rf {} +

distclean: clean ## remove dist/ and .data/ too
	@rm -rf dist .data
