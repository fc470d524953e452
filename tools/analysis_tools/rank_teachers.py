"""Compare teachers on held-out images and recommend one.

python tools/analysis_tools/rank_teachers.py \
    --teacher r101 CONFIG CHECKPOINT --teacher r50 CONFIG CHECKPOINT \
    --out PREFIX
writes PREFIX.md, PREFIX.png and PREFIX.json.
"""

from tcal_det.checks import check_count
from tcal_det.commands import CommandParser, ConfigOptions, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.fileio import (make_output_prefix_folder, write_json_atomically,
                             write_text_atomically)
from tcal_det.teacher_options import (MAX_SAMPLES, NUM_RESAMPLES, PROTOCOLS,
                                      SPLITS)
from tcal_det.teachers.image_bootstrap import CONFIDENCE_LEVEL
from tcal_det.visualization import save_figure
from tcal_det.visualization.teacher_scatter import teacher_scatter

# More take gigabytes of memory even for a few thousand images.
MOST_RESAMPLES = 100000


def parse_args():
    parser = CommandParser(
        description='Rank teachers by calibration error on held-out images')
    parser.add_argument(
        '--teacher',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help="teacher to compare, given at least twice; CONFIG is a path or "
        "an 'mmdet::' name, CHECKPOINT a path, a URL, or 'auto' for an "
        "'mmdet::' config")
    parser.add_argument(
        '--out',
        required=True,
        metavar='PREFIX',
        help='beginning of the file names PREFIX.md, PREFIX.png and '
        'PREFIX.json')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='val',
        help="split of the first teacher's config, whose images no teacher "
        'was trained on (default: val)')
    parser.add_argument(
        '--protocol',
        choices=PROTOCOLS,
        default='train',
        help='RoIs to measure: the RoIs that distillation samples (train), or '
        'all proposals (test); a dense head has the same priors in both '
        '(default: train)')
    parser.add_argument(
        '--max-samples',
        type=int,
        default=MAX_SAMPLES,
        help='maximum number of RoIs of each teacher, or of pairs of a prior '
        'and a class; more are sampled at random (default: '
        f'{MAX_SAMPLES})')
    parser.add_argument(
        '--num-resamples',
        type=int,
        default=NUM_RESAMPLES,
        help='number of resamples of the images, for the intervals '
        f'(default: {NUM_RESAMPLES})')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='random seed of the sampled RoIs and of the resamples '
        '(default: 0)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help="new values of keys of every teacher's config: key=value "
        '(default: none)')
    return parser.parse_args()


def check_args(args):
    names = [name for name, _, _ in args.teacher]
    if len(names) < 2 or len(set(names)) < len(names):
        raise InvalidValueError(
            '`--teacher` must be given at least twice, each with another '
            f'name, but got the names {names}')
    for name in names:
        if not name.strip() or '|' in name or '\n' in name:
            raise InvalidValueError(
                '`--teacher` must be given names without line breaks and |, '
                f'which are not empty, but got {name!r}')
    check_count('--num-resamples', args.num_resamples, 2, MOST_RESAMPLES)


def write_results(prefix, ranking, title, provenance):
    """Write the results; the JSON file is last and shows completeness."""
    write_text_atomically(f'{prefix}.md', ranking.as_markdown() + '\n')
    scores = ranking.scores
    figure = teacher_scatter([score.name for score in scores],
                             [score.mean_ap for score in scores],
                             [(score.ece.value, score.ece.low, score.ece.high)
                              for score in scores],
                             [score.calibrated_ece.value for score in scores],
                             [score.label
                              for score in scores], ranking.recommended.name,
                             title, scores[0].calibrated_at)
    save_figure(figure, f'{prefix}.png', dpi=110)
    write_json_atomically(f'{prefix}.json',
                          dict(ranking.to_dict(), **provenance))


def main():
    args = parse_args()
    check_args(args)
    # Slow to import.
    from tcal_det.teachers.logits import collect_teacher_samples
    from tcal_det.teachers.ranking import (TeacherRanking, check_comparable,
                                           measure_mean_ap)
    from tcal_det.teachers.sources import (annotation_files,
                                           build_calibration_dataloader,
                                           build_teacher, load_teacher_config,
                                           shares_annotations)
    from tcal_det.teachers.teacher_score import score_teacher

    sources = {
        name: load_teacher_config(config, checkpoint, args.cfg_options)
        for name, config, checkpoint in args.teacher
    }
    # Find all mistakes before the first measurement, which takes long.
    detectors = {
        name: build_teacher(*source)
        for name, source in sources.items()
    }
    check_comparable(detectors)
    make_output_prefix_folder(args.out)
    data_cfg = next(iter(sources.values()))[0]
    dataloader = build_calibration_dataloader(data_cfg, args.split)
    for name, (cfg, _) in sources.items():
        if shares_annotations(data_cfg, args.split, trained_by=cfg):
            print(f'warning: {name} was trained on the {args.split} split: '
                  'it looks better calibrated there than it is')

    scores = []
    for name, detector in detectors.items():
        print(f'{name}: calibration')
        samples = collect_teacher_samples(detector, dataloader, args.protocol,
                                          args.max_samples, args.seed)
        print(f'{name}: mAP')
        mean_ap = measure_mean_ap(detector, dataloader)
        scores.append(
            score_teacher(name, samples, mean_ap, args.num_resamples,
                          args.seed))
    ranking = TeacherRanking.from_scores(scores)
    write_results(
        args.out, ranking, f'Teachers on the {args.split} split, '
        f'{CONFIDENCE_LEVEL:.0%} intervals',
        dict(
            sources={
                name: dict(config=config, checkpoint=checkpoint)
                for name, config, checkpoint in args.teacher
            },
            split=args.split,
            ann_files=annotation_files(data_cfg, args.split),
            num_images=samples.num_images,
            protocol=args.protocol,
            num_resamples=args.num_resamples,
            seed=args.seed))
    print(ranking.as_markdown())
    print(f'written: {args.out}.md, .png, .json')


if __name__ == '__main__':
    run_command(main)
