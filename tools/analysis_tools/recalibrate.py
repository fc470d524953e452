"""Recalibrate a detector's scores: `tcal-recalibrate`."""
from tcal_det.cli.recalibrate import main

if __name__ == '__main__':
    main()
