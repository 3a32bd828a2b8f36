"`python -m voicelab` is the command `voicelab`."
from voicelab.cli import main

if __name__ == "__main__": main()
