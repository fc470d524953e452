"""TIDE's error split in plain Python, with pycocotools' own matching."""
import bisect

import numpy as np
from pycocotools import mask

from tcal_det.evaluation.functional import FALSE_POSITIVE, TRUE_POSITIVE
from tests.test_evaluation.test_functional.detection_scenes import \
    cocoeval_flags


class PlainErrorSplit:
    """Loops over the records of a scene, as its definition reads."""

    def __init__(self, scene, iou_thr, background_iou_thr):
        annotations, results = scene
        self.objects = {a['id']: a for a in annotations['annotations']}
        self.results = results
        self.classes = sorted({
            a['category_id']
            for a in self.objects.values() if not a['iscrowd']
        })
        self.status, matched = cocoeval_flags(scene, iou_thr)
        taken = set(matched[self.status == TRUE_POSITIVE].tolist())
        self.free = [
            number for number, a in self.objects.items()
            if not a['iscrowd'] and number not in taken
        ]
        self.type_of, self.takes = {}, {}
        turn = sorted(
            range(len(results)),
            key=lambda row:
            (-results[row]['score'], results[row]['image_id'], row))
        self.turn = turn
        for row in turn:
            if self.status[row] == FALSE_POSITIVE:
                self.type_of[row], target = self._error(
                    results[row], iou_thr, background_iou_thr)
                if target in self.free and target not in self.takes.values():
                    self.takes[row] = target
        self.missed = [
            number for number in self.free
            if number not in self.takes.values()
        ]

    def _error(self, result, iou_thr, background_iou_thr):
        same, other = (0, None), (0, None)
        for number, a in self.objects.items():
            if a['iscrowd'] or a['image_id'] != result['image_id']:
                continue
            iou = mask.iou([result['bbox']], [a['bbox']], [0])[0, 0]
            if a['category_id'] == result['category_id']:
                same = max(same, (iou, number), key=lambda best: best[0])
            else:
                other = max(other, (iou, number), key=lambda best: best[0])
        if background_iou_thr <= same[0] <= iou_thr:
            return 'localization', same[1]
        if other[0] >= iou_thr:
            return 'classification', other[1]
        if same[0] >= iou_thr:
            return 'duplicate', None
        if max(same[0], other[0]) <= background_iou_thr:
            return 'background', None
        return 'both', None

    def ap(self, fixed=()):
        """AP when errors of these types were put right."""
        curves = {k: [] for k in self.classes}
        for row in self.turn:
            k = self.results[row]['category_id']
            right = self.status[row] == TRUE_POSITIVE
            if self.status[row] not in (TRUE_POSITIVE, FALSE_POSITIVE):
                continue
            if self.type_of.get(row) in fixed:
                if row not in self.takes:
                    continue
                k, right = self.objects[self.takes[row]]['category_id'], True
            if k in curves:
                curves[k].append(right)
        values = []
        for k, rights in curves.items():
            num_objects = sum(
                not a['iscrowd'] and a['category_id'] == k
                and not ('missed' in fixed and number in self.missed)
                for number, a in self.objects.items())
            if num_objects or rights:
                values.append(interpolated(rights, num_objects))
        return np.mean(values) if values else np.nan

    def special_aps(self):
        """AP with right ones first, and with found objects alone."""
        first, found = [], []
        for k in self.classes:
            rows = [
                row for row in self.turn
                if self.results[row]['category_id'] == k
                and self.status[row] in (TRUE_POSITIVE, FALSE_POSITIVE)
            ]
            rights = [self.status[row] == TRUE_POSITIVE for row in rows]
            num_objects = sum(not a['iscrowd'] and a['category_id'] == k
                              for a in self.objects.values())
            first.append(
                interpolated(sorted(rights, reverse=True), num_objects))
            if rights:
                found.append(interpolated(rights, sum(rights)))
        return [
            np.mean(values) if values else np.nan for values in (first, found)
        ]


def interpolated(rights, num_objects):
    """AP with 101 recall levels of detections in their order."""
    if num_objects == 0:
        return 0
    recall, precision, num_right = [], [], 0
    for place, right in enumerate(rights, 1):
        num_right += right
        recall.append(num_right / num_objects)
        precision.append(num_right / place)
    total = 0
    for level in np.linspace(0, 1, 101):
        first = bisect.bisect_left(recall, level)
        total += max(precision[first:], default=0)
    return total / 101
