"""Paint ground truth and the detections of several models side by side.

python tools/analysis_tools/compare_detections.py --out detections.png \
    --model teacher CONFIG CHECKPOINT --model student CONFIG CHECKPOINT
"""
import argparse
import os.path as osp

import mmcv
from mmdet.apis import inference_detector, init_detector
from mmdet.models.utils import samplelist_boxtype2tensor
from mmdet.registry import DATASETS
from mmdet.visualization import DetLocalVisualizer
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress

from tcal_det.commands import run_command
from tcal_det.config_file import load_config
from tcal_det.engine.training import check_data
from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.fileio import make_output_folder
from tcal_det.visualization import check_figure_path, save_figure
from tcal_det.visualization.detection_grid import detection_grid


def parse_args():
    parser = argparse.ArgumentParser(
        description='Ground truth and detections of models, side by side, on '
        "the first model's test images")
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'))
    parser.add_argument('--out', required=True, help='.png, .pdf or .svg')
    parser.add_argument('--num-images', type=int, default=4)
    parser.add_argument('--score-thr', type=float, default=0.5)
    parser.add_argument('--device', default='cpu')
    return parser.parse_args()


def check_args(args):
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
    # One each, though two models may name the same file: init_detector
    # changes what it is given.
    cfgs = [load_config(config) for _, config, _ in args.model]
    cfg = cfgs[0]
    check_data(cfg, 'test_dataloader')
    make_output_folder(osp.dirname(osp.abspath(args.out)))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = dataset.metainfo
    detectors = [
        init_detector(
            model_cfg, checkpoint, palette='random', device=args.device)
        for model_cfg, (_, _, checkpoint) in zip(cfgs, args.model)
    ]
    rows = []
    for index in track_iter_progress(
            list(range(min(args.num_images, len(dataset))))):
        truth = dataset[index]['data_samples']
        # The visualizer draws tensors, the data set gives box objects.
        samplelist_boxtype2tensor([truth])
        image = mmcv.imread(truth.img_path, channel_order='rgb')
        samples = [
            inference_detector(detector, truth.img_path)
            for detector in detectors
        ]
        rows.append([_paint(visualizer, image, truth, True, 0)] + [
            _paint(visualizer, image, sample, False, args.score_thr)
            for sample in samples
        ])
    titles = ['ground truth', *(name for name, _, _ in args.model)]
    save_figure(detection_grid(rows, titles), args.out)
    print(f'\nwritten: {args.out}')


def _paint(visualizer, image, sample, is_truth, score_thr):
    visualizer.add_datasample(
        'comparison',
        image,
        sample,
        draw_gt=is_truth,
        draw_pred=not is_truth,
        pred_score_thr=score_thr)
    return visualizer.get_image()


if __name__ == '__main__':
    run_command(main)
