"""Distil a detector from a teacher: write the config, and train it.

python tools/distill.py STUDENT.py TEACHER [CHECKPOINT] [--calibrate] ...
STUDENT and TEACHER are configs; the teacher may have any supported head. The
comments of the written config say what was chosen, and why. The training is
that of tools/train.py.
"""
import os.path as osp
import warnings

from tcal_det.commands import (CommandParser, one_line_warnings,
                               parse_training_args, run_command)
from tcal_det.errors import TcalDetWarning


def parse_args():
    parser = CommandParser(description='Distil a detector from a teacher')
    parser.add_argument(
        'student',
        help="config of the student without a teacher: a path or an 'mmdet::' "
        'name')
    parser.add_argument(
        'teacher', help="config of the teacher: a path or an 'mmdet::' name")
    parser.add_argument(
        'checkpoint',
        nargs='?',
        default='auto',
        help="weights of the teacher: a path, a URL, or 'auto' for the zoo "
        "weights of an 'mmdet::' config (default: auto)")
    parser.add_argument(
        '--calibrate',
        action='store_true',
        help="fit the teacher's calibrator to the val images of the student")
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='TEACHER=STUDENT',
        help="classes of the teacher that have another name in the student's "
        'data; TEACHER= leaves a class out')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='distill config to write; defaults to '
        "STUDENT_distill-TEACHER.py next to the student's, or below the work "
        "dir for an 'mmdet::' student")
    parser.add_argument(
        '--work-dir',
        help='folder for logs, checkpoints and the calibration; defaults to '
        'work_dirs/STUDENT_distill-TEACHER')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='write the config, but do not train')
    return parse_training_args(parser)


def main():
    args = parse_args()
    # Slow to import.
    from tcal_det.engine.distill_config import (config_path, distill_name,
                                                is_main_process,
                                                wait_for_config)
    work_dir = args.work_dir or osp.join(
        'work_dirs', distill_name(args.student, args.teacher))
    path = config_path(args.student, args.teacher, work_dir, args.out)
    if is_main_process(args.launcher):
        with one_line_warnings():
            write(args, path, work_dir)
    else:
        wait_for_config(path)
    if not args.dry_run:
        from tcal_det.engine.launching import train
        train(path, args, work_dir)


def write(args, path, work_dir):
    """Choose calibrator and losses, print the choice, write the config."""
    from tcal_det.engine.distill_config import config_text, write_config
    from tcal_det.engine.distill_pair import (compare_detectors,
                                              read_class_map, read_student)
    from tcal_det.engine.distill_recipe import (choose_calibrator_for,
                                                choose_losses, fit_calibrator)
    from tcal_det.fileio import make_output_folder

    class_map = read_class_map(args.classes or ())
    student_cfg = read_student(args.student, args.cfg_options)
    if args.calibrate or not args.dry_run:
        make_output_folder(work_dir, '`--work-dir` must be')
    pair = compare_detectors(student_cfg, args.teacher, args.checkpoint,
                             class_map)
    teacher = dict(config=args.teacher, checkpoint=args.checkpoint)
    print('\n'.join(pair.lines()))

    calibrator = choose_calibrator_for(pair)
    if args.calibrate:
        fitted, found = fit_calibrator(
            pair,
            osp.join(work_dir, 'teacher_calibration'),
            dict(teacher),
            keep_existing=args.resume is not None)
        if fitted:
            print(found)
        else:
            warnings.warn(
                f'not fitted (--calibrate): {found}',
                TcalDetWarning,
                stacklevel=2)
        calibrator = fitted or calibrator
    losses = choose_losses(pair, calibrator.cfg)
    for name, choice in (('calibrator', calibrator), ('losses', losses)):
        print(f'{name}: {choice.cfg}\n    {choice.reason}')

    comments = dict(
        teacher=pair.summary(),
        calibrator=calibrator.reason,
        check='the training stops if the teacher is not better than chance '
        'on the first batches',
        distill_losses=losses.reason)
    if pair.class_map:
        teacher['classes'] = pair.class_map
    teacher.update(calibrator=calibrator.cfg, check=True)
    write_config(
        path,
        config_text(args.student, path, student_cfg.model.type, comments,
                    teacher, losses.cfg))
    print(f'written: {path}')


if __name__ == '__main__':
    run_command(main)
