"The command `voicelab`, also run by `python -m voicelab`."
import os
import signal
import sys

INTERRUPTED = "voicelab: interrupted\n"


def main():
    "Run the command line; Ctrl-C prints one line, even while modules are still being imported."
    def leave(*_):                      # an exception could be lost: callbacks of imports ignore it
        os.write(2, INTERRUPTED.encode())
        os._exit(130)
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours: signal.signal(signal.SIGINT, leave)
    from voicelab.cli import main as command
    try:
        if ours: signal.signal(signal.SIGINT, signal.default_int_handler)
        command()
    except KeyboardInterrupt:
        sys.stderr.write(INTERRUPTED)
        raise SystemExit(130) from None


if __name__ == "__main__": main()
