#!/usr/bin/env bash
# `make demo`: handwritten digits. Trains a teacher on all scenes, and three
# smaller students on fewer scenes: alone (baseline), with KD and with TCal. The
# accuracy and the calibration of the baseline are the first result; a table, a
# picture and an HTML report of all four follow. Two runs train at a time, each
# on half of the cores. Finished parts are skipped when it is called again.
set -eu -o pipefail
cd "$(dirname "$0")/.."
DATA=data/digits
RUNS=work_dirs/demo
CONFIGS=configs/demo/faster-rcnn_r18
CORES=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((CORES > 1 ? CORES / 2 : 1))}
SECONDS=0

say() {
    printf '\n== [%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"
}

# train NAME CONFIG EPOCHS: train and test one run.
train() {
    local name=$1 config=$2 checkpoint=$RUNS/$1/epoch_$3.pth
    if [ ! -f "$checkpoint" ]; then
        say "train $name: $config"
        python tools/train.py "$config" --work-dir "$RUNS/$name" --resume
    fi
    if [ ! "$RUNS/$name/.tested" -nt "$checkpoint" ]; then
        say "test $name"
        python tools/test.py "$config" "$checkpoint" --work-dir "$RUNS/$name" \
            --out "$RUNS/$name/test.pkl"
        touch "$RUNS/$name/.tested"
    fi
}

# labelled NAME ...: train, with NAME before each line of the output.
labelled() {
    train "$@" 2>&1 | sed -u "s/^/$(printf '%-8s' "$1") | /"
}

# both PIDS: wait for the runs; if one of them fails, the demo fails.
both() {
    local pid
    for pid in "$@"; do
        wait "$pid"
    done
}

if [ ! -d "$DATA" ]; then
    say "compose scenes in $DATA"
    python tools/dataset_converters/digits_to_coco.py --out "$DATA"
fi

# Each run has its own process group, so that Ctrl-C, or the failure of another
# run, stops it together with all its workers.
trap 'for run in $(jobs -p); do kill -- "-$run" 2>/dev/null || true; done' EXIT
trap 'exit 130' INT TERM
set -m

labelled teacher ${CONFIGS}-half_fpn_8e_digits.py 8 &
teacher=$!
labelled baseline ${CONFIGS}-quarter_fpn_16e_digits.py 16 &
wait $!
say 'first result: the baseline, which learns from labels alone'
python tools/analysis_tools/compare_runs.py $RUNS/baseline
say 'the teacher is trained next to it; KD and TCal follow'
wait $teacher
labelled kd ${CONFIGS}-quarter_fpn_kd-r18-half_16e_digits.py 16 &
kd=$!
labelled tcal ${CONFIGS}-quarter_fpn_tcal-r18-half_16e_digits.py 16 &
both $kd $!
set +m

say 'picture'
python tools/analysis_tools/compare_detections.py \
    --model teacher ${CONFIGS}-half_fpn_8e_digits.py $RUNS/teacher/epoch_8.pth \
    --model baseline ${CONFIGS}-quarter_fpn_16e_digits.py $RUNS/baseline/epoch_16.pth \
    --model TCal ${CONFIGS}-quarter_fpn_tcal-r18-half_16e_digits.py $RUNS/tcal/epoch_16.pth \
    --score-thr 0.5 --out $RUNS/detections.png
say 'report'
tcal-report $DATA/annotations/test.json \
    $RUNS/{baseline,kd,tcal,teacher}/test.pkl \
    --result-names baseline KD TCal teacher --images $DATA/test \
    --title 'Handwritten digits' --out $RUNS/report.html
say "table, also in $RUNS/table.md"
python tools/analysis_tools/compare_runs.py $RUNS/baseline $RUNS/kd \
    $RUNS/tcal $RUNS/teacher --out $RUNS/table
cat <<END
One seed: two trainings of the same method differ by as much as these students.
docs/evidence/study.md compares the methods over many seeds.
END
say "done; picture: $RUNS/detections.png, report: $RUNS/report.html"
# The report opens where there is a desktop.
if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || [ "$(uname)" = Darwin ]; then
    python -m webbrowser "file://$PWD/$RUNS/report.html"
fi
