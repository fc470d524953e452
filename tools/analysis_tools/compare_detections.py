"""Paint ground truth and the detections of several models side by side.

python tools/analysis_tools/compare_detections.py --out detections.png \
    --model teacher CONFIG CHECKPOINT --model student CONFIG CHECKPOINT
"""
import os.path as osp

from tcal_det.commands import CommandParser, run_command


def parse_args():
    parser = CommandParser(
        description='Paint ground truth and detections of models side by '
        "side, on the first model's test images")
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='model to show, once for each column; NAME is the title of the '
        'column, CHECKPOINT a path or a URL')
    parser.add_argument(
        '--out',
        required=True,
        help='picture to write: a .png, .pdf or .svg file')
    parser.add_argument(
        '--num-images',
        type=int,
        default=4,
        help='number of images, counted from the first (default: 4)')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.5,
        help='score threshold; detections with a score up to it are left out '
        '(default: 0.5)')
    parser.add_argument(
        '--no-masks', action='store_true', help='paint only boxes')
    parser.add_argument(
        '--device',
        default='cpu',
        help="device of the models, e.g. 'cuda:0' (default: cpu)")
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='accept checkpoints whose weights differ from those of their '
        'model; missing weights stay random')
    return parser.parse_args()


def check_args(args):
    from tcal_det.errors import InvalidValueError, MissingFileError
    from tcal_det.visualization import check_figure_path
    if args.num_images < 1:
        raise InvalidValueError(
            f'`--num-images` must be >= 1, but got {args.num_images}')
    check_figure_path(args.out)
    for _, _, checkpoint in args.model:
        if '://' not in checkpoint and not osp.isfile(checkpoint):
            raise MissingFileError(f'checkpoint {checkpoint!r} does not exist')


def main():
    args = parse_args()
    check_args(args)

    # Slow to import; not needed for --help and wrong arguments.
    from tcal_det.config_file import load_config
    from tcal_det.dataset_files import check_data
    from tcal_det.engine.detection_drawing import draw_detections
    from tcal_det.fileio import make_output_folder
    from tcal_det.visualization import save_figure
    from tcal_det.visualization.detection_grid import detection_grid

    # One config object for each model, even if two models name the same file:
    # building a detector may change its config.
    models = [(load_config(config), checkpoint)
              for _, config, checkpoint in args.model]
    check_data(models[0][0], 'test_dataloader')
    make_output_folder(osp.dirname(osp.abspath(args.out)))
    rows = draw_detections(
        models,
        num_images=args.num_images,
        score_thr=args.score_thr,
        device=args.device,
        with_masks=not args.no_masks,
        allow_partial=args.allow_partial)
    titles = ['ground truth', *(name for name, _, _ in args.model)]
    save_figure(detection_grid(rows, titles), args.out)
    print(f'\nwritten: {args.out}')


if __name__ == '__main__':
    run_command(main)
