"Numbers in words: a table of cases for each language, what stays, hostile numbers, and the text form of a card."
import time
import warnings

import pytest

import voicelab as vl
from voicelab.number_words import NUMBER_LANGUAGES, SPOKEN, cardinal, say_numbers
from voicelab.text import TextError
from voicelab.text_form import TextForm, form_from

CASES = {
    "en": [
        ("0, 7, 12, 21 and 100", "Zero, seven, twelve, twenty-one and one hundred"),
        ("It has 1,234,567 parts.", "It has one million two hundred thirty-four thousand five hundred sixty-seven parts."),
        ("Some 12 000 and 1000000", "Some twelve thousand and one million"),
        ("3.14 and 0.5 and 2.05", "Three point one four and zero point five and two point zero five"),
        ("the 1st, 2nd, 3rd and 21st", "the first, second, third and twenty-first"),
        ("in 1945, 2000, 2005 and 2026", "in nineteen forty-five, two thousand, two thousand five and twenty twenty-six"),
        ("the 1990s", "the nineteen nineties"),
        ("$12.50, €1, £1.01, €0.99, ¥500, $0",
         "Twelve dollars and fifty cents, one euro, one pound and one penny, ninety-nine cents, five hundred yen, zero dollars"),
        ("12.50 € and $5 million and $1,000", "Twelve euros and fifty cents and five million dollars and one thousand dollars"),
        ("at 10:30, 10:00, 10:05 and 23:59", "at ten thirty, ten o'clock, ten oh five and twenty-three fifty-nine"),
        ("at 0:00, 12:00, 13:00 and 20:00", "at midnight, twelve o'clock, thirteen hundred and twenty hundred"),
        ("$1M, £1.5m, €2bn and $3k", "One million dollars, one point five million pounds, two billion euros and three thousand dollars"),
        ("at 9:30am, 10:00am", "at nine thirty am, ten am"),
        ("1. The garden.\n2) The house.", "One, The garden.\nTwo, The house."),
        ("1. Milk. 2. Two eggs. 3. Tea.", "One, Milk. Two, Two eggs. Three, Tea."), ("Buy: 1. Milk. 2. Eggs.", "Buy: one, Milk. Two, Eggs."),
        ("How many? 5. That is all.", "How many? Five. That is all."),
        ("It was so in 1998. 2. That is all.", "It was so in nineteen ninety-eight. Two. That is all."),
        ("7 p.m., 7pm, 10:00 a.m., 9.30 p.m.", "Seven p.m., seven pm, ten a.m., nine thirty p.m."),
        ("45%, 2.5 %", "Forty-five percent, two point five percent"),
        ("It is -5 or −3.5 or -$2", "It is minus five or minus three point five or minus two dollars"),
        ("5-10, 5–10%, 10:30-11:30, 1990-1995, 3-1",
         "Five to ten, five to ten percent, ten thirty to eleven thirty, nineteen ninety to nineteen ninety-five, three to one"),
        ("a 3:1 lead", "a three to one lead"),
        ("Call 202-555-0147 or +1 (202) 555-0147",
         "Call two zero two, five five five, zero one four seven or plus one, two zero two, five five five, zero one four seven"),
        ("Call 202 555 0147 or 5550147 or 555-0147",
         "Call two zero two, five five five, zero one four seven or five five five zero one four seven or five five five, zero one four seven"),
        ("Agent 007", "Agent zero zero seven"),
        ("H2O, B12, 5kg, COVID-19", "H two O, B twelve, five kg, COVID-nineteen"),
        ("Good. 6 came. No. 5 did not.", "Good. Six came. No. five did not."),
        ("Only ٢٥ of them", "Only twenty-five of them"),
        ("½ cup, 2½ cups, 1 ¾ miles, ⅓, ⅝ and 12½%", "One half cup, two and a half cups, one and three quarters miles, one third, "
         "five eighths and twelve and a half percent"),
        ("x², 5 m², 3cm³ and (a+b)²", "x squared, five m squared, three cm cubed and (a+b) squared"),
        ("① Milk\n② Eggs", "One, Milk\nTwo, Eggs"), ("step ③, H₂O and Chapter Ⅳ", "step three, H two O and Chapter four"),
        ("$-5, US$-5 and € -2.50", "Minus five dollars, minus five dollars and minus two euros and fifty cents"),
    ],
    "de": [
        ("0, 1, 21, 100 und 1.234", "Null, eins, einundzwanzig, einhundert und eintausendzweihundertvierunddreißig"),
        ("1 Haus, 3,14 und 3.14", "Ein Haus, drei Komma eins vier und drei Komma eins vier"),
        ("1.234.567,5", "Eine Million zweihundertvierunddreißigtausendfünfhundertsiebenundsechzig Komma fünf"),
        ("Am 3. Mai, der 1. Platz, 24. Dezember", "Am dritten Mai, der erste Platz, vierundzwanzigster Dezember"),
        ("Der 2. Weltkrieg endete 1945.", "Der zweite Weltkrieg endete neunzehnhundertfünfundvierzig."),
        ("12,50 €, 1 €, 0,99 €, $5", "Zwölf Euro und fünfzig Cent, ein Euro, neunundneunzig Cent, fünf Dollar"),
        ("um 10:30 Uhr, 1:00, 1 Uhr, 10.30 Uhr", "um zehn Uhr dreißig, ein Uhr, ein Uhr, zehn Uhr dreißig"),
        ("45 %, -5, 5–10 Tage", "Fünfundvierzig Prozent, minus fünf, fünf bis zehn Tage"),
        ("Tel. 030 123456", "Tel. null drei null, eins zwei drei vier fünf sechs"),
        ("am 1. und 2. Mai, vom 1. bis 5. Mai", "am ersten und zweiten Mai, vom ersten bis fünften Mai"),
        ("am 1., 2. und 3. Mai, am 1. und am 2. Mai", "am ersten, zweiten und dritten Mai, am ersten und am zweiten Mai"),
        ("der 1. und der 2. Platz, 1.–5. Mai, 01. Mai", "der erste und der zweite Platz, erster bis fünfter Mai, erster Mai"),
        ("1 und 1, 1 von 3, 1 oder 2 Tage, 1 Tag", "Eins und eins, eins von drei, ein oder zwei Tage, ein Tag"),
        ("2½ Liter, ½ Liter, ¾, $-5", "Zweieinhalb Liter, ein halb Liter, drei Viertel, minus fünf Dollar"),
    ],
    "fr": [
        ("0, 21, 71, 80, 81", "Zéro, vingt-et-un, soixante-et-onze, quatre-vingts, quatre-vingt-un"),
        ("1 234 567 et 3,14", "Un million deux cent trente-quatre mille cinq cent soixante-sept et trois virgule un quatre"),
        ("le 1er, la 1re, le 2e, la 3ème", "le premier, la première, le deuxième, la troisième"),
        ("12,50 €, 1 €, 5 millions €", "Douze euros et cinquante centimes, un euro, cinq millions d'euros"),
        ("à 10h30, 1h, 21:00, 15h05", "à dix heures trente, une heure, vingt-et-une heures, quinze heures cinq"),
        ("45 %, -5, 5-10", "Quarante-cinq pour cent, moins cinq, cinq à dix"),
        ("06 12 34", "Zéro six, un deux, trois quatre"),
        ("le 1 mai, le 2 mai, le 01 juin", "le premier mai, le deux mai, le premier juin"),
        ("2½, ⅔, x², -5 €", "Deux et demi, deux tiers, x au carré, moins cinq euros"),
    ],
    "es": [
        ("1, 21, 100, 1.234", "Uno, veintiuno, cien, mil doscientos treinta y cuatro"),
        ("1 libro, 21 libros, 3,14", "Un libro, veintiún libros, tres coma uno cuatro"),
        ("el 1.º, la 2ª, el 3er piso", "el primero, la segunda, el tercer piso"),
        ("12,50 €, 1 €, $2.50", "Doce euros con cincuenta céntimos, un euro, dos dólares con cincuenta centavos"),
        ("a las 10:30, 1:15, 10:00", "a las diez y treinta, una y quince, diez"),
        ("45 %, -5, 5-10", "Cuarenta y cinco por ciento, menos cinco, cinco a diez"),
        ("Tel. 0034 912 345", "Tel. cero cero tres cuatro, nueve uno dos, tres cuatro cinco"),
        ("El 1 de mayo, el 2 de Mayo, el 21 de mayo, 01 de junio", "El primero de mayo, el dos de Mayo, el veintiuno de mayo, primero de junio"),
        ("1 de cada 3, 1 y 2, 21 años", "Uno de cada tres, uno y dos, veintiún años"),
        ("2½ y ¾, $-5", "Dos y medio y tres cuartos, menos cinco dólares"),
    ],
    "ar": [
        ("5 و ٢٥ و11", "خمسة و خمسة وعشرون وأحد عشر"),
        ("300, 800, 2000", "ثلاثمائة, ثمانمائة, ألفان"),
        ("1,234 و 3.14 و ٣٫١٤", "ألف ومائتان وأربعة وثلاثون و ثلاثة فاصلة واحد أربعة و ثلاثة فاصلة واحد أربعة"),
        ("$1, $2, $5, $12, $100", "دولار واحد, دولاران, خمسة دولارات, اثنا عشر دولارا, مائة دولار"),
        ("12.50$", "اثنا عشر دولارا وخمسون سنتا"),
        ("الساعة 10:30", "الساعة العاشرة والنصف"),
        ("الساعة 1:05", "الساعة الواحدة وخمس دقائق"),
        ("الساعة 2:01, 4:02", "الساعة الثانية ودقيقة واحدة, الرابعة ودقيقتان"),
        ("الساعة 2:12, 4:18", "الساعة الثانية واثنتا عشرة دقيقة, الرابعة وثماني عشرة دقيقة"),
        ("الساعة 2:20, 4:21", "الساعة الثانية وعشرون دقيقة, الرابعة وإحدى وعشرون دقيقة"),
        ("الساعة 3", "الساعة الثالثة"),
        ("45% و ٤٥٪", "خمسة وأربعون بالمئة و خمسة وأربعون بالمئة"),
        ("-5 و 5-10", "ناقص خمسة و خمسة إلى عشرة"),
        ("0501", "صفر خمسة صفر واحد"),
        ("½ و ⅔ و ¾ و 2½", "نصف و ثلثان و ثلاثة أرباع و اثنان ونصف"),
    ],
    "zh": [
        ("205人，1,234", "二百零五人，一千二百三十四"),
        ("3.14，-5度", "三点一四，负五度"),
        ("2026年10:30，2:05", "二零二六年十点三十分，两点零五分"),
        ("12.50€，¥100，45%", "十二点五零欧元，一百元，百分之四十五"),
        ("5-10个，第3，13812345678", "五到十个，第三，一三八一二三四五六七八"),
        ("2个人，2 本书，2年，2万，2-3个，2点", "两个人，两 本书，两年，两万，两到三个，两点"),
        ("第2个，2月，12个，2.5米，2年级，2", "第二个，二月，十二个，二点五米，二年级，二"),
        ("½，2½，第①步", "二分之一，二又二分之一，第一步"),
    ],
}


@pytest.mark.parametrize("language, text, words", [(code, *case) for code, cases in CASES.items() for case in cases])
def test_a_number_is_said_as_in_its_language(language, text, words):
    with warnings.catch_warnings(action="error"): assert say_numbers(text, language) == words


def test_every_language_has_cases(): assert {*CASES} == {*SPOKEN} == {*NUMBER_LANGUAGES} - {"auto"}


@pytest.mark.parametrize("text, words", [
    ("Am 3. Mai kam er. Das ist 1 Haus.", "Am dritten Mai kam er. Das ist ein Haus."),
    ("The price is 1.5 and he is 20. قرأت 5 كتب.", "The price is one point five and he is twenty. قرأت خمسة كتب."),
    ("门票12元。 It is 3.", "门票十二元。 It is three."), ("Das ist so. Raum 5.", "Das ist so. Raum fünf."),
    ("Er ist da. The price is 5 and it is high.", "Er ist da. The price is five and it is high.")])
def test_the_language_is_that_of_the_sentence(text, words):
    with warnings.catch_warnings(action="error"): assert say_numbers(text) == words


@pytest.mark.parametrize("text, said", [("12", "Twelve"), ("Room 5.", "Room five."), ("Tengo 3 gatos.", "Tengo three gatos."), ("Det er 5.", "Det er five."),
                                        ("To jest 5 kotów.", "To jest five kotów."), ("این 5 کتاب است", "این خمسة کتاب است")])
def test_a_guessed_language_is_told_once(text, said):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert say_numbers(text) == said
    code = "ar" if "این" in text else "en"
    assert [str(each.message) for each in warned] == [
        f"text: its language is unclear, so its numbers are said in {code!r}: {said!r}; TextForm(language=...) sets it"]
    with warnings.catch_warnings(action="error"): assert say_numbers(text, code) == said


@pytest.mark.parametrize("text, code", [("Ho visto 3 gatti in giardino, che sono di mio zio.", "it"), ("Ela tem 3 gatos e não mais.", "pt"),
                                        ("De trein is er om 5 uur.", "nl")])
def test_a_language_without_words_is_not_taken_for_english(text, code):
    with pytest.warns(UserWarning, match=f"there are no words for numbers in '{code}'"): assert say_numbers(text) == text


@pytest.mark.parametrize("text", ["Born 12/03/2001.", "On 2026-11-24.", "Am 3.5.2026 da", "Version 1.2.3", "1/2 cup", "12,34,567", "At 10:30:15",
                                  "See https://example.com/2?a=3 now", "me2@example.com", "a garden² and ⅩⅣ"])
def test_what_no_rule_reads_stays_and_is_told(text):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert say_numbers(text, "en") == text
    assert [str(each.message).startswith("text: left as they are, since no rule reads them: ") for each in warned] == [True]


@pytest.mark.parametrize("tag", ["[SPEAKER0]", "[music 2 s]", "<|audio_7|>"])
def test_a_tag_stays(tag):
    with warnings.catch_warnings(action="error"): assert say_numbers(f"{tag} It is 5. [5]", "en") == f"{tag} It is five. [five]"


def test_a_language_without_words_stays_and_is_told():
    with pytest.warns(UserWarning, match="text: left as they are, since there are no words for numbers in 'ru': 25"):
        assert say_numbers("Ему 25 лет.") == "Ему 25 лет."


@pytest.mark.parametrize("unit", ["½", "1½", "1. und ", "am 1. ", "①", "²", "2个",
                                  "1", "1,", "1.", "1-", "1 ", "1:", "$1", "1%", "0", "(1", "+1 ", "1/", "a1", "1 234 ", "1st ", "@1"])
def test_hostile_numbers_take_little_time(unit):
    begun = time.process_time()
    with warnings.catch_warnings(action="ignore"):
        try: say_numbers((unit * 10_000)[:10_000], "fr")
        except TextError as error: assert "characters with its numbers in words" in str(error)
    assert time.process_time() - begun < 20


@pytest.mark.parametrize("code", SPOKEN)
def test_every_whole_number_has_words_without_digits(code):
    for number in [*range(0, 130), *range(195, 2000, 37), *(10**n + rest for n in range(4, 15) for rest in (0, 11)), *(3 * 10**n for n in range(15))]:
        for form in ("numbering", "masculine", "feminine"):
            words = cardinal(number, code, form)
            assert words and "  " not in words and not any(map(str.isdigit, words)), (number, words)


def test_a_form_says_numbers_in_text_and_transcript():
    form = form_from(None, dict(numbers="words", lines="joined"))
    assert form.write(form.read("It costs $5\nnow")) == "It costs five dollars now." and form.transcript(" It is 5") == "It is five"
    assert TextForm().read("Room 5") == "Room 5" and form_from("upstream", dict(numbers="words")).read("Room 5") == "Room 5"
    with pytest.raises(TextError, match="text_form: numbers must be one of kept, words, got 'digits'"): TextForm(numbers="digits")


def test_the_option_reaches_prompt_and_budget():
    model = vl.load("tiny")
    words, digits = (model.session("The train leaves at 10:30.", text_form=form) for form in (TextForm(numbers="words"), TextForm()))
    assert "ten thirty" in words.chunks[0].prompt.text and "10:30" in digits.chunks[0].prompt.text
    assert "ten thirty" in model.prompt("The train leaves at 10:30.", text_form=TextForm(numbers="words")).text
