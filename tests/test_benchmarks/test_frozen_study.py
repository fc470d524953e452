"""The sentences of the frozen study of 12 epochs, from its results file."""
import json
import os.path as osp
import re
import subprocess

import numpy as np
import pytest
from scipy import stats

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
FIRST, FRESH, BLOOD = 'r18-half_e12', 'r18-half-s1_e12', 'bccd_r18-half_e24'
EARLY = 'r18-half-s1_e4'

with open(
        osp.join(REPOSITORY, 'benchmarks/study_12-epochs/results.json'),
        encoding='utf-8') as results_file:
    RESULTS = json.load(results_file)
FINISHED = [run for run in RESULTS['runs'] if run['status'] == 'finished']
DIGITS = [run for run in FINISHED if run['stage'] not in ('teachers', 'bccd')]


def values(stage,
           temperature=None,
           teacher=None,
           split='test',
           figure='mAP',
           method=None,
           weight=16.0):
    """A figure x 100 by seed, of the baseline where no teacher is named."""
    wanted = dict(
        stage=stage,
        method=method or ('tcal' if teacher else 'baseline'),
        temperature=temperature,
        teacher=teacher,
        loss_weight=weight if teacher else None,
        fitted=False)
    return {
        run['seed']: 100 * run[split][figure]
        for run in FINISHED
        if all(run[key] == value for key, value in wanted.items())
    }


def differences(side, reference):
    """Of the seeds that both have."""
    return np.array([
        side[seed] - reference[seed] for seed in sorted(side)
        if seed in reference
    ])


def interval(samples, sign=1):
    """'mean [low, high]' of samples, or of their negatives."""
    samples = sign * samples
    low, high = stats.t.interval(0.95,
                                 len(samples) - 1, samples.mean(),
                                 stats.sem(samples))
    return f'{samples.mean():.1f} [{low:.1f}, {high:.1f}]'


def softened(split='test', figure='mAP'):
    """T = 3 minus T = 1 on the ten fresh seeds."""
    return differences(
        *(values('confirmation', temperature, FRESH, split, figure)
          for temperature in (3.0, 1.0)))


def softened_on_bccd(split):
    return differences(*(values('bccd', temperature, BLOOD, split)
                         for temperature in (3.0, 1.0)))


def taught_by(teacher):
    """Its students minus those of the fresh teacher."""
    return differences(
        values('copies', 1.0, teacher), values('confirmation', 1.0, FRESH))


def groups(runs, least=5):
    """Runs that differ in their seed only, where there are several."""
    found = {}
    for run in runs:
        key = tuple(run[name] for name in ('stage', 'method', 'temperature',
                                           'teacher', 'loss_weight'))
        found.setdefault(key, []).append(run)
    return [group for group in found.values() if len(group) >= least]


def spans(runs):
    """Least and largest standard deviation of mAP on test."""
    stds = [
        np.std([100 * run['test']['mAP'] for run in group], ddof=1)
        for group in groups(run for run in runs if run['test'])
    ]
    return f'{min(stds):.1f} to {max(stds):.1f}'


def bccd_mean(figure, *chosen, **settings):
    """Over seeds, of students on BCCD."""
    found = values('bccd', *chosen, figure=figure, **settings)
    return f'{np.mean(list(found.values())):.1f}'


def bccd_means(figure):
    """T = 1, 1.5 and 3, at weight 16."""
    return ' to '.join(
        bccd_mean(figure, temperature, BLOOD) for temperature in (1, 1.5, 3))


def of_the_study():
    """Sentences of docs/evidence/study_12-epochs.md."""
    plain = values('seeds', split='val')
    fresh_plain = values('confirmation', split='val')
    plain_d_ece = values('seeds', split='val', figure='D-ECE')
    plain_row = [f'{plain[1]:.1f}, {plain[2]:.1f}']
    yield (f'| plain | 12 | 1, 2 | {plain_row[0]} | {plain_d_ece[1]:.1f}, '
           f'{plain_d_ece[2]:.1f} |')
    yield (f'({np.mean(list(plain.values())):.1f} is the mean of five seeds '
           'of this study)')
    yield f'plain student has {plain_row[0]} and {fresh_plain[6]:.1f}.'
    best = max(
        np.mean([100 * run['val']['mAP'] for run in group])
        for group in groups(DIGITS))
    yield f'({best:.1f} at most, on val)'
    worst = max(100 * run[split]['D-ECE'] for run in DIGITS
                for split in ('val', 'test') if run[split])
    yield f'student of this study ({worst:.1f} at most)'

    early = taught_by(EARLY)
    assert (early > 0).all() and (taught_by('r18-half-s1_e2') > 0).all()
    yield (f'{early.mean():.1f} mAP more (five seeds, standard deviation '
           f'{early.std(ddof=1):.2f})')
    yield (f'by {taught_by("r18-half-s1_e2").mean():.1f} and '
           f'{early.mean():.1f} mAP, in each of the five seeds')
    yield (f'against {values("copies", 1.0, FIRST, "val")[1]:.1f} mAP on '
           'val')

    halves = interval(softened()[:5]), interval(softened()[5:])
    yield f'Digits: {interval(softened())} with one teacher'
    yield f'the last five seeds alone show {halves[1]}.'
    yield f'The first five seeds show {halves[0]}, the last five {halves[1]}.'
    yield (f'BCCD: {softened_on_bccd("test").mean():.1f} on test, '
           f'{interval(softened_on_bccd("val"))} on val.')
    yield (f'{interval(softened_on_bccd("test"))} on the 72 test images, is '
           f'{interval(softened_on_bccd("val"))} on the 87 val images')
    yield (f'on test, {softened_on_bccd("test").std(ddof=1):.2f}, is the '
           'lowest')
    yield f'on val it is {softened_on_bccd("val").std(ddof=1):.2f}.'
    yield (f'LaECE_0 that is lower by '
           f'{interval(softened(figure="LaECE_0"), -1)} and an LRP_0 that is '
           f'higher by {interval(softened(figure="LRP_0"))} than')
    slightly = differences(
        values('confirmation', 1.5, FRESH), values('confirmation', 1.0, FRESH))
    ends = stats.t.interval(0.95, 9, slightly.mean(), stats.sem(slightly))
    yield f'to within {max(map(abs, ends)):.1f} mAP either way'

    yield f'LaECE_0 from {bccd_means("LaECE_0")}, LRP_0 from ' + bccd_means(
        'LRP_0') + f', with {bccd_mean("LRP_0")} for the baseline.'
    yield ('lowest LRP_0, ' +
           bccd_mean('LRP_0', None, BLOOD, method='kd', weight=4.0))
    hard = [
        values('copies', 1.0, FIRST, 'val', 'D-ECE')[seed] for seed in (1, 2)
    ] + [values('confirmation', 1.0, FRESH, 'val', 'D-ECE')[6]]
    yield 'one of {:.1f}, {:.1f} and {:.1f} (seeds'.format(*hard)

    old = {
        run['temperature']: run
        for run in RESULTS['runs']
        if run['stage'] == 'confirmation' and run['teacher'] == FIRST
    }
    yield (f'T = 1 ({100 * old[1.0]["test"]["mAP"]:.1f} mAP on test) and '
           f'T = 1.5 ({100 * old[1.5]["test"]["mAP"]:.1f}) of seed 6 were '
           f'run, and T = 3 was stopped after {old[3.0]["wall_time_s"]:.0f} '
           'seconds')
    first = next(run for run in RESULTS['runs']
                 if run['name'] == 'teachers/r18-half')
    change = abs(first['val']['mAP'] - first['repeats'][0]['val']['mAP'])
    yield f'came out {100 * change:.1f} mAP apart on val'
    checkpoints = [
        teacher for teacher in RESULTS['teachers']
        if teacher['temperature'] in (None, 1.0) and '-s1_' in teacher['name']
    ]
    errors = [100 * teacher['ece'] for teacher in checkpoints]
    assert len(errors) == 6
    yield f'they span {min(errors):.2f} to {max(errors):.2f} % of ECE only'
    fitted = {
        teacher['fitted_temperature']
        for teacher in RESULTS['teachers'] if teacher['name'] == FRESH
    }
    yield f'temperature fitted to this teacher is {fitted.pop():.2f}.'
    commits = [
        run['commit'] for run in RESULTS['runs'] if run['stage'] == 'seeds'
    ]
    changed = sum(commit.endswith('+changes') for commit in commits)
    yield f'and {changed} of its {len(commits)} were made with uncommitted'


def of_the_results():
    """Sentences of docs/evidence/results.md."""
    blood = [run for run in FINISHED if run['stage'] == 'bccd']
    yield (f'standard deviations of {spans(DIGITS)} mAP on smaller digit '
           f'scenes, and of {spans(blood)} on BCCD')
    pull = {
        (scale['method'], scale['temperature']): scale['rms_gradient']
        for scale in RESULTS['gradient_scales']
    }
    ratio = pull['kd', None] / pull['tcal', 1.5]
    yield f'pulls on the student {ratio:.1f} times as hard as TCal'


def text_of(document):
    """With single spaces, and without the tables, whose blocks are marked."""
    with open(osp.join(REPOSITORY, document), encoding='utf-8') as file:
        text = file.read()
    text = re.sub(
        r'<!-- study:(\S+) -->.*?<!-- /study:\1 -->',
        '',
        text,
        flags=re.DOTALL)
    return ' '.join(text.split())


@pytest.mark.parametrize(
    ('document', 'sentence'),
    [(document, sentence)
     for document, sentences in (('docs/evidence/study_12-epochs.md',
                                  of_the_study),
                                 ('docs/evidence/results.md', of_the_results))
     for sentence in sentences()])
def test_sentences_quote_what_the_results_say(document, sentence):
    assert sentence in text_of(document)


def test_no_line_over_the_first_teachers_copies():
    students = {
        temperature: np.mean(list(found.values()))
        for temperature, found in ((0.33, values('copies', 0.33, FIRST)),
                                   (0.5, values('copies', 0.5, FIRST)),
                                   (1.0, values('copies', 1.0, FIRST)))
    }
    softest = max(run['temperature'] for run in FINISHED
                  if run['stage'] == 'copies' and run['teacher'] == FIRST)
    assert f'no copy softer than T = {softest:.1f} at this weight' in text_of(
        'docs/evidence/study_12-epochs.md')
    students[softest] = np.mean([
        100 * run['test']['mAP'] for run in FINISHED
        if run['stage'] == 'copies' and run['teacher'] == FIRST
        and run['temperature'] == softest
    ])
    errors = {
        teacher['temperature']: teacher['ece']
        for teacher in RESULTS['teachers'] if teacher['name'] == FIRST
    }
    fit = stats.linregress([errors[key] for key in students],
                           list(students.values()))
    assert fit.rvalue**2 < 0.05


def git(*arguments):
    return subprocess.run(['git', *arguments],
                          cwd=REPOSITORY,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL,
                          universal_newlines=True)


def has_whole_history():
    try:
        answer = git('rev-parse', '--show-toplevel',
                     '--is-shallow-repository').stdout.split('\n')
    except FileNotFoundError:
        return False
    return answer[:2] == [REPOSITORY, 'false']


@pytest.mark.skipif(
    not has_whole_history(), reason='needs the history of the repository')
def test_commits_that_are_not_in_this_history():
    commits = {run['commit'].split('+')[0] for run in RESULTS['runs']}
    absent = {
        commit
        for commit in commits
        if git('merge-base', '--is-ancestor', commit, 'HEAD').returncode
    }
    sentence = re.search(r'are not in this history: (.*?)\.',
                         text_of('docs/evidence/study_12-epochs.md'))
    assert set(re.findall(r'`(\w+)`', sentence[1])) == absent
