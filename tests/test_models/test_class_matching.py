"""Which class of a teacher is which of the student's."""
import pytest

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.class_correspondence import SharedClass
from tcal_det.models.class_matching import (check_class_map, describe_match,
                                            match_classes)

COCO = ('person', 'bicycle', 'car', 'couch', 'tv', 'dining table', 'truck')
VOC = ('sofa', 'diningtable', 'Person', 'car', 'sheep')


def pairs(*args):
    return [tuple(one) for one in match_classes(*args)]


def test_by_name_whatever_the_spelling():
    assert pairs(COCO, VOC) == [(1, (5, )), (2, (0, )), (3, (2, ))]


def test_another_order():
    assert pairs(('b', 'c', 'a'), ('a', 'b', 'c')) == [(0, (2, )), (1, (0, )),
                                                       (2, (1, ))]


def test_the_exact_name_goes_before_the_spelling():
    assert pairs(('tv', 'TV'), ('TV', 'tv')) == [(0, (1, )), (1, (0, ))]


def test_a_dict_adds_to_the_names():
    assert pairs(COCO, VOC, dict(couch='sofa')) == [(0, (3, )), (1, (5, )),
                                                    (2, (0, )), (3, (2, ))]


def test_several_classes_of_the_teacher_are_one():
    assert pairs(COCO, VOC, dict(truck='car')) == [(1, (5, )), (2, (0, )),
                                                   (3, (2, 6))]


def test_a_class_can_be_left_out_or_turned():
    assert pairs(COCO, VOC, dict(person=None, car='sheep')) == [(1, (5, )),
                                                                (4, (2, ))]


def test_labels_serve_as_names():
    assert pairs(COCO, VOC, {
        3: 0,
        'car': 4
    }) == [(0, (3, )), (1, (5, )), (2, (0, )), (4, (2, ))]


@pytest.mark.parametrize('classes, message', [
    (dict(settee='sofa'),
     "name classes of the teacher, but 'settee' is not one of 7 ('person', "),
    (dict(couch='settee'),
     "name classes of the train dataset, but 'settee' is not one of 5 "
     "('sofa', "),
    ({
        7: 'sofa'
    }, 'classes of the teacher, but 7 is not one of 7'),
    ({
        0: -1
    }, 'classes of the train dataset, but -1 is not one of 5'),
])
def test_a_class_that_does_not_exist(classes, message):
    with pytest.raises(InvalidValueError) as caught:
        match_classes(COCO, VOC, classes)
    assert message in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('teacher, classes', [
    (('chat', 'chien'), 'auto'),
    (('cat', 'chien'), dict(cat=None)),
])
def test_no_shared_class(teacher, classes):
    with pytest.raises(InvalidValueError) as caught:
        match_classes(teacher, ('cat', 'dog'), classes)
    message = str(caught.value)
    assert f'the teacher has 2 ({teacher[0]!r}, {teacher[1]!r})' in message
    assert "the train dataset has 2 ('cat', 'dog')" in message
    assert f"`teacher.classes={{{teacher[0]!r}: 'cat'}}`" in message


def test_a_long_list_is_cut():
    names = tuple(f'class {i}' for i in range(80))
    with pytest.raises(InvalidValueError) as caught:
        match_classes(names, ('cat', ))
    assert "'class 11', ...)" in str(caught.value)


@pytest.mark.parametrize('classes', [
    None, 'by name', ['a'], {
        1.5: 'a'
    }, {
        'a': 1.5
    }, {
        True: 'a'
    }, {
        'a': ('b', )
    }
])
def test_what_is_no_map(classes):
    with pytest.raises(InvalidTypeError, match='`teacher.classes` must be'):
        check_class_map(classes)


def test_table():
    shared = match_classes(COCO, VOC, dict(truck='car'))
    assert describe_match(shared, COCO, VOC) == [
        'student        teacher',
        '1 diningtable  5 dining table',
        '2 Person       0 person',
        '3 car          2 car, 6 truck',
        "classes of the student only: 2 ('sofa', 'sheep')",
        "classes of the teacher only: 3 ('bicycle', 'couch', 'tv')",
    ]
    same = [SharedClass(0, (0, ))]
    assert describe_match(same, ('a', ),
                          ('a', )) == ['student  teacher', '0 a      0 a']
