#!/usr/bin/env bash
# Trains networks as those that ship were trained. benchmarks/recipes/NAME.txt has an option a line, on top of
# benchmarks/recipes/common.txt.
#
#   bash benchmarks/train.sh CAMVID RUNS swiftnet               # first: the others learn from it
#   bash benchmarks/train.sh CAMVID RUNS icnet pspnet            # at the same time, on one GPU where there is one
#   bash benchmarks/train.sh CAMVID RUNS icnet -- --epochs 40 --split without-0006R0 --holdouts only-0006R0
#
# Options after -- replace those of the recipes. Each run leaves RUNS/NAME and RUNS/NAME.log; the same command again
# resumes what was stopped. RTSEG is the command to call where that is not plain rtseg.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 3 ] || { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \?//' >&2; exit 2; }
root=$1 runs=$2
shift 2
names=() own=()
while [ $# -gt 0 ]; do
  if [ "$1" = -- ]; then shift; own=("$@"); break; fi
  names+=("$1")
  shift
done
mkdir -p "$runs"

# The options of a network, those of the command line last; of an option that is given twice only the later ones count.
recipe() {
  local line option seen=" "
  for option in "${own[@]}"; do case $option in --*) seen+="$option " ;; esac; done
  for line in "${own[@]}"; do echo "$line"; done
  for file in "$1" common; do
    local here=" "
    while read -r line; do
      option=${line%% *}
      case $line in '' | '#'*) continue ;; esac
      case $seen in *" $option "*) continue ;; esac
      here+="$option "
      tr ' ' '\n' <<< "${line//RUNS/$runs}"
    done < "benchmarks/recipes/$file.txt"
    seen+=$here
  done
}

pids=()
for name in "${names[@]}"; do
  mapfile -t options < <(recipe "$name")
  ${RTSEG:-rtseg} train "${options[@]}" --data camvid --root "$root" --output "$runs/$name" > "$runs/$name.log" 2>&1 &
  pids+=($!)
done
failed=0
for number in "${!pids[@]}"; do
  wait "${pids[$number]}" || { echo "error: ${names[$number]} failed: $(tail -n 1 "$runs/${names[$number]}.log")" >&2; failed=1; }
done
exit $failed
