"""Measure calibration and AP of a results file: `tcal-eval`."""
from tcal_det.cli.eval_calibration import main

if __name__ == '__main__':
    main()
