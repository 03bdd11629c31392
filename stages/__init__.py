"""One script for each DVC stage.

A stage that is run imports with the garbage collector off: modules are no garbage, and looking for some among torch's
took a quarter of the time that a stage needs to start and end. `lib.base.stage.main` turns it on.
"""

import gc
import sys

if sys.argv[0] == "-m":  # `python -m stages.NAME`, which looks for the module now; not a mere import
    gc.disable()
