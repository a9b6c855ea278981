"""A signal that comes at any instant of a wait ends it."""

import subprocess
import sys
import time

WAITS = """
from feature_store.stop import stop_on_signal
stop = stop_on_signal()
print("ready", flush=True)
while not stop.wait(0):
    pass
"""


def test_a_process_that_waits_all_the_time_ends_whenever_the_signal_comes():
    for number in range(12):
        process = subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE)
        with process:
            process.stdout.readline()
            time.sleep(0.001 * number)
            process.terminate()
            try:
                assert process.wait(10) == 0
            finally:
                process.kill()
