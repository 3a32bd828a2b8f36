"""List frequent Arabic words with their vowel marks: arabic_words.txt, the most frequent first.

    pip install mishkal wordfreq && python arabic_words.py > arabic_words.txt

mishkal (a tool under the GPL, needed only for this list) adds the marks; words that it leaves bare are left out, and of
words that are spelled alike without marks only one remains, so that a bare word says which vocalised one is meant.
"""
import re

from mishkal.tashkeel import TashkeelClass
from wordfreq import top_n_list

MARKS = "\u064b-\u0652"


def main():
    vocaliser = TashkeelClass()
    for bare in top_n_list("ar", 6000):
        if not re.fullmatch("[\u0621-\u063a\u0641-\u064a]{2,}", bare): continue
        word = vocaliser.tashkeel(bare).strip()
        if re.sub(f"[{MARKS}]", "", word) == bare and len(re.findall(f"[{MARKS}]", word)) >= max(1, len(bare) // 2 - 1):
            print(word)


if __name__ == "__main__": main()
