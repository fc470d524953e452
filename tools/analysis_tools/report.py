"""Write an HTML page about results files: `tcal-report`."""
from tcal_det.cli.report import main

if __name__ == '__main__':
    main()
