#!/usr/bin/env bash
# The efficiency benchmarks, for a fresh machine with a GPU, torch and transformers >= 5.17; needs
# no network, no lmms-eval and no installation.
#
#   scripts/gpu_benchmarks.sh [--small] [--output DIR] [PART...]
#
# Parts, most valuable first; all of them if none is named:
#   7b-batch8 7b-batch1   every method at 192, 128 and 64 tokens on LLaVA-1.5-7B's shape
#   selection             every method's kernels, time and waits by phase, at batch 8 and 1
#   next                  LLaVA-NeXT's 2,880 visual tokens at 320 and 160
#   13b                   LLaVA-1.5-13B's shape at 64
#   launches              what a CUDA graph would give at batch 1
#   capacity              the largest batch in 40 GiB
#   answers               the trained model's answers on the GPU against the CPU's
#
# Each part takes at most ten minutes and keeps its records as it ends; run again, it goes on from
# them. --small runs all of it in minutes on a CPU, which shows that it works and nothing else.
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false

small=false output='' parts=()
while (($#)); do
  case $1 in
    --small) small=true ;;
    --output) output=${2:?--output needs a directory}; shift ;;
    *) parts+=("$1") ;;
  esac
  shift
done
((${#parts[@]})) || parts=(7b-batch8 7b-batch1 selection next 13b launches capacity answers)

if $small; then
  device=cpu busy=() output=${output:-results/gpu-small}
  m7=random:tiny mnext=random:tiny m13=random:tiny next=(--images 2) large=2 memory=0.02
  run=(--repeats 2 --new-tokens 4) questions=5 methods=vitcop,visionzip budgets=192,64
else
  # a busy GPU is in the record; a refusal would cost the run
  device=cuda busy=(--allow-busy) output=${output:-results/gpu}
  m7=random:llava-1.5-7b mnext=random:llava-next-7b m13=random:llava-1.5-13b next=() large=8
  memory=40 run=(--repeats 20 --new-tokens 16 --minutes 8) questions=200
  methods=vitcop,fastv,sparsevlm,visionzip,pyramiddrop,random budgets=192,128,64
fi

efficiency() { # DIRECTORY OPTIONS...
  local where=$output/$1
  shift
  timeout -s INT 590 python3 -m harness efficiency --device $device --methods $methods \
    ${busy[@]+"${busy[@]}"} "${run[@]}" -o "$where" "$@"
}
script() { timeout -s INT 590 python3 "tests/benchmarks/$1.py" --device $device --output "$output/$1" "${@:2}"; }

failed=()
for part in "${parts[@]}"; do
  printf '\n== %s\n' "$part"
  began=$SECONDS
  case $part in
    7b-batch8) efficiency 7b --model $m7 --budgets $budgets --batch-size $large ;;
    7b-batch1) efficiency 7b --model $m7 --budgets $budgets --batch-size 1 ;;
    selection) script profile_phases --model $m7 --methods $methods --budget 64 --batch-size $large,1 ;;
    next) efficiency next --model $mnext --budgets 320,160 --batch-size 1 ${next[@]+"${next[@]}"} ;;
    13b) efficiency 13b --model $m13 --budgets 64 --batch-size $large ;;
    launches) script launch_overhead --model $m7 ;;
    capacity) efficiency capacity --model $m7 --budgets 64 --methods vitcop,fastv,visionzip \
      --batch-size 1 --repeats 1 --find-max-batch $memory ;;
    answers) script check_answers --questions $questions --methods $methods --budget 64 ;;
    *) printf 'unknown part %s\n' "$part" >&2; exit 2 ;;
  esac
  status=$?
  printf '== %s ended with status %d after %d s\n' "$part" $status $((SECONDS - began))
  ((status)) && failed+=("$part")
done
((${#failed[@]})) && { printf 'not all parts succeeded: %s\n' "${failed[*]}" >&2; exit 1; }
exit 0
